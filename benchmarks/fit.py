"""What ``fbwrap.fit`` makes of published pairs: every default untouched, no setting of a pair's own. No labels,
but for cvaegan_mnist, whose D is called with them.

    python benchmarks/fit.py --data DATA --weights WEIGHTS [--pairs wgangp_mnist] [--seeds 0 1 2]
    python benchmarks/fit.py --data DATA --weights WEIGHTS --pairs voxels_bed facades

``fit`` splits the training images by its seed, and chooses and judges by itself. What stands beside its verdict is
measured here: the Fréchet distance of 10 000 samples to the data set's own test images, in the features of a classifier
that learned from labels (of facades, the perceptual distance to the 100 validation pairs). ``fit`` has seen neither.
Faces have no data here: samples of the same G stand in, a base that cannot be bettered: the right verdict is "no gain".
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from defaults import Case
from results import Results

import fbwrap

COLUMNS = [
    "base", "head", "G trained on, equal steps", "G trained on, equal time", "low-rank update of G, equal steps",
    "low-rank update of G, equal time", "same modules on zeros", "minutes",
]  # fmt: skip


def row(case: Case, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """One fit, and the distances of all that it compared."""
    torch.manual_seed(seed)
    result = fbwrap.fit(case.G, case.D, case.real, latents=case.latents, out=folder, seed=seed, steps=steps, **case.how)
    distances = {"base": case.distance(case.G)}
    with result.loop.settings(strength=result.chosen.strength, steps=result.chosen.feedback_steps):
        distances["head"] = case.distance(result.loop)  # as it was chosen; one that is no gain is saved at strength 0
    distances |= {name: case.distance(generate) for name, generate in result.rivals.items()}
    inside = {f"fit: {row.model}": row.over_base.value for row in result.rows}
    return {
        "verdict": result.verdict.value,
        **dataclasses.asdict(result.chosen),
        "minutes": result.seconds / 60,
        **distances,
        **inside,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", default=["wgangp_mnist", "cvaegan_mnist", "dcgan_faces32",
                                                       "fashion_dcgan", "fashion_sngan"])  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--base-seed", type=int, default=0, help="of the bases of clothes, which are trained here")
    parser.add_argument("--base-precision", default="bf16", help="no: for processors that emulate bf16, slowly")
    parser.add_argument("--out", type=Path, default=Path("runs/fit"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.out)
    for name in options.pairs:
        case = Case(name, options.data, options.weights, options.out, options.base_seed, options.base_precision)
        named = f"{name}-base{options.base_seed}" if options.base_seed else name
        for seed in options.seeds:
            folder = options.out / f"{named}-{seed}"
            print(results.once(named, seed, lambda: row(case, folder, seed, options.steps)))


if __name__ == "__main__":
    main()
