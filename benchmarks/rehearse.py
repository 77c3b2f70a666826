"""The heads that ``benchmarks/fit.py`` made: pushed to a Hub on this machine, pulled, and compared bit for bit.

    python benchmarks/rehearse.py --data DATA --weights WEIGHTS --out runs/fit --pairs wgangp_mnist voxels_bed

``--out`` is that of ``benchmarks/fit.py``. Of each fit the head is taken, and the modules without D if there are any.
The server (tests/hubserver.py) answers the requests of huggingface_hub, so nothing leaves this machine.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hubserver import Hub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base-seed", type=int, default=0)
    parser.add_argument("--base-precision", default="bf16")
    options = parser.parse_args()
    hub = Hub()
    with tempfile.TemporaryDirectory() as home:
        # read when huggingface_hub is imported
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": home, "HF_HUB_OFFLINE": "0",
                       "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
        from defaults import Case

        for pair in options.pairs:
            case = Case(pair, options.data, options.weights, options.out, options.base_seed, options.base_precision)
            named = f"{pair}-base{options.base_seed}" if options.base_seed else pair
            for part in ("head", "without_D"):
                folder = options.out / f"{named}-{options.seed}" / part
                if (folder / "config.json").is_file():
                    print(rehearsed(hub, folder, f"me/{named}-{part.replace('_', '-')}", case.G, case.latents(4)))
    hub.close()


def rehearsed(hub: Hub, folder: Path, repo: str, G: Any, z: Any) -> str:
    """One head: what was pushed, and whether it gives the same samples."""
    import torch

    import fbwrap
    from fbwrap.heads.hub import push_folder

    push_folder(folder, repo, license="mit", task="unconditional-image-generation")
    files = hub.repos[repo].at("main")[1]
    inputs = z if isinstance(z, tuple) else (z,)
    made = []
    for source in (folder, repo):
        with fbwrap.from_pretrained(source, G) as loop, torch.no_grad():
            made.append(loop(*inputs))
            verdict = loop.facts.trained_on.get("verdict")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 2**20
    equal = "the same samples, bit for bit" if torch.equal(*made) else "OTHER SAMPLES"
    return f"{repo}: {verdict}; {len(files)} files, {size:.1f} MiB; {equal}"


if __name__ == "__main__":
    main()
