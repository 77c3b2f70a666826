"""AFL §4.4, Table 1, at the size of one core: a small ESRGAN (x4) trained here on BSDS, then four feedback modules.

    python benchmarks/super_resolution.py --data DIR [--head dual] [--seeds 0] [--out runs/super_resolution]

Phase 1: an RRDBNet of four blocks and 32 channels learns L1 alone, then, with a patch discriminator, ESRGAN's losses
without the perceptual one (its VGG's weights cannot be had here): relativistic with R1, and L1. Phase 2, from the
same G and D with the same losses, for as many steps: four dual modules of three convolutions, one after each block,
fed D's features at the same size ("AFL", group norm, zero start; AFL's own have no norm), G itself ("G trained on"),
or the same modules fed noise or a constant (not another sample's features: the test runs one image at a time). With
``--head basic`` the modules see D's features alone, not G's; with ``pyramid`` all of D's stages and its response.
Measured on Set5 and Set14, means over images of RGB within a border of 4 pixels: RMSE of 255, PSNR, SSIM, NIQE
(BasicSR's, on Y; lower is more natural). ``DIR`` holds sr_train_bsds.zip and sr_test_set5_set14.zip. What is done is
not done again.
"""

import argparse
import copy
import io
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL, GAN, Pairs
from fbwrap.recipes.data import SuperResolution
from fbwrap.recipes.metrics.quality import image_quality, niqe
from fbwrap.recipes.networks.residual import PatchDiscriminator, RRDBNet
from fbwrap.recipes.studies import replaced_signals
from PIL import Image
from results import Results
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

import fbwrap

OPTIONS: dict[str, Any] = {
    "loss": "relativistic", "adversarial": 3e-2, "reconstruction": 1.0, "r1": 0.3, "critic_mode": "train", "batch": 8,
    "critic_lr": 1e-4, "value_range": (0.0, 1.0), "warmup": 0, "critic_steps": 1, "held_out": 0,
}  # fmt: skip
# what each block's module is, and what of D it sees; D's second stage has the low resolution's size
HEADS: dict[str, tuple[dict[str, Any], Any]] = {
    "dual": ({"kind": "dual", "convs": 3, "norm": "group"}, "main.1"),
    "basic": ({"kind": "basic", "convs": 3, "norm": "group"}, "main.1"),
    "pyramid": ({"kind": "pyramid"}, ["main.0", "main.1", "main.2", "response"]),
}
RATES = {"base": 2e-4, "G trained on": 1e-4, "head": 2e-4}
CONTROLS = ("noise", "a constant")


class Patches(SuperResolution):
    """Random patches of images that are held in memory."""

    def __init__(self, images: list[Tensor], patch: int):
        self.keys, self._on_error, self._bad = list(range(len(images))), "stop", set()
        self._images, self._patch = images, patch

    def read(self, key: int) -> tuple[Tensor, Tensor]:
        image = self._images[key]
        top = int(torch.randint(image.shape[1] - self._patch + 1, ()))
        left = int(torch.randint(image.shape[2] - self._patch + 1, ()))
        image = image[:, top : top + self._patch, left : left + self._patch]
        image = image.flip(2) if torch.rand(()) < 0.5 else image
        small = F.interpolate(image[None], scale_factor=0.25, mode="bicubic", antialias=True)[0].clamp(0, 1)
        return small, image.contiguous()


def opened(archive: zipfile.ZipFile, name: str) -> Tensor:
    picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


@torch.no_grad()
def measured(generate: Callable[[Tensor], Tensor], tests: dict[str, list[tuple[Tensor, Tensor]]]) -> dict[str, float]:
    found = {}
    for name, pairs in tests.items():
        rows = []
        for low, high in pairs:
            made, wanted = generate(low[None]).clamp(0, 1), high[None]
            inside = (..., slice(4, -4), slice(4, -4))
            rows.append({**image_quality(made[inside], wanted[inside]), "niqe": niqe(made[inside])})
        found |= {f"{name} {key}": sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return found


def pretrained(pairs: Pairs, seed: int, steps: int, path: Path) -> nn.Module:
    """G by L1 alone."""
    torch.manual_seed(seed)
    G = RRDBNet(32, 4, 16)
    if path.exists():
        load_model(G, path)
        return G
    optimizer = torch.optim.Adam(G.parameters(), 4e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-4, total_steps=steps, pct_start=0.1)
    data = torch.utils.data.DataLoader(
        pairs.inputs, 8, sampler=torch.utils.data.RandomSampler(pairs.inputs, True, 8 * steps)
    )
    for low, high in data:
        loss = F.l1_loss(G(low), high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save_model(G, str(path))
    return G


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--l1-steps", type=int, default=3000)
    parser.add_argument("--base-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--head", choices=HEADS, default="dual")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=["AFL", "G trained on", *CONTROLS])
    parser.add_argument("--out", type=Path, default=Path("runs/super_resolution"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.out)
    train, test = (zipfile.ZipFile(options.data / f"sr_{name}.zip") for name in ("train_bsds", "test_set5_set14"))
    images = [opened(train, name) for name in train.namelist() if name.endswith(".jpg")]
    names = [name for name in test.namelist() if "/HR/" in name]
    tests = {
        which: [(opened(test, n.replace("/HR/", "/LRx4/")), opened(test, n)) for n in names if n.startswith(which)]
        for which in ("Set5", "Set14")
    }
    pairs = lambda: Pairs(Patches(images, options.patch))  # noqa: E731
    bicubic = lambda x: F.interpolate(x, scale_factor=4, mode="bicubic")  # noqa: E731
    results.once("bicubic", 0, lambda: measured(bicubic, tests))
    for seed in options.seeds:
        G = pretrained(pairs(), seed, options.l1_steps, options.out / f"l1_{seed}.safetensors")
        results.once("L1 alone", seed, lambda: measured(G.eval(), tests))
        D, folder = PatchDiscriminator(3, 32), options.out / f"base_{seed}"
        GAN(G, D, **OPTIONS, lr=RATES["base"], seed=seed).fit(
            pairs(), steps=options.base_steps, out=folder, resume=True, progress=False
        )
        results.once("base", seed, lambda: measured(G.eval(), tests))
        for row in options.rows:
            results.once(row, seed, lambda: phase_2(row, G.eval(), D.eval(), pairs(), seed, options, tests))
    columns = [f"{name} {key}" for name in tests for key in ("rmse", "psnr", "ssim", "niqe")]
    print(results.table(columns, ["bicubic", "L1 alone", "base", "G trained on", "AFL", *CONTROLS]))


def phase_2(row: str, G: nn.Module, D: nn.Module, pairs: Pairs, seed: int, options: Any, tests: Any) -> dict:
    """Train one row from the pair and measure it."""
    torch.manual_seed(1000 + seed)
    common = {**OPTIONS, "seed": 1000 + seed}
    out = options.out / f"{row.replace(' ', '_')}_{seed}"
    if row == "G trained on":
        net = copy.deepcopy(G)
        GAN(net, copy.deepcopy(D), lr=RATES[row], **common).fit(
            pairs, steps=options.steps, out=out, resume=True, progress=False
        )
        return measured(net.eval(), tests)
    module, source = HEADS[options.head]
    links = [(f"body.{block}", source) for block in range(4)]
    loop = fbwrap.attach(G, D, links, module=module, example=torch.rand(1, 3, 16, 16))
    with loop, replaced_signals(loop, row) if row in CONTROLS else nullcontext():
        AFL(loop, lr=RATES["head"], **common).fit(pairs, steps=options.steps, out=out, resume=True, progress=False)
        found = measured(loop, tests)
        for alpha in (0.25, 0.5, 0.75):
            with loop.settings(strength=alpha):
                found |= {f"α = {alpha} {key}": value for key, value in measured(loop, tests).items()}
    return found


if __name__ == "__main__":
    main()
