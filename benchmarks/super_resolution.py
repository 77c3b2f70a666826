"""AFL §4.4 on a published generator: realesr_animevideov3 (x4), a discriminator trained for it, BSDS patches.

    python benchmarks/super_resolution.py --data DIR [--steps 2000] [--seeds 0] [--out runs/super_resolution]

G was published without a D and for anime. A patch discriminator learns to tell its results from photographs; then,
for as many steps and with the same losses (relativistic x 5e-3, L1), either G goes on (the control) or four dual
modules of three convolutions learn and G stays; and the same modules without D (their source is the image alone) or fed
a constant. Measured on Set5 and Set14 (means over images, RGB, a border of 4 pixels left out): RMSE of 255, PSNR, SSIM,
and the distance in the features of the D that was trained before anything else learned (lower: closer to the
photograph), which no row was trained against. ``--data`` holds sr_train_bsds.zip, sr_test_set5_set14.zip and weights/.
A finished part is not run again.
"""

import argparse
import copy
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL, GAN, Pairs, train_discriminator
from fbwrap.recipes.metrics import image_quality
from fbwrap.recipes.networks.residual import PatchDiscriminator
from fbwrap.recipes.sources import SuperResolution
from PIL import Image
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn

import fbwrap

LOSSES = {"loss": "relativistic", "adversarial": 5e-3, "reconstruction": 1.0, "r1": 0.0, "critic_mode": "train"}
LAYERS = ["body.9", "body.17", "body.25", "body.33"]
MODULE = {"kind": "dual", "convs": 3, "norm": "none"}


class Compact(nn.Module):
    """Real-ESRGAN's SRVGGNetCompact."""

    def __init__(self, width: int = 64, convs: int = 16):
        super().__init__()
        middle = [part for _ in range(convs) for part in (nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width))]
        first = [nn.Conv2d(3, width, 3, 1, 1), nn.PReLU(width)]
        self.body = nn.ModuleList([*first, *middle, nn.Conv2d(width, 48, 3, 1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.body:
            h = layer(h)
        return F.pixel_shuffle(h, 4) + F.interpolate(x, scale_factor=4)


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


def measured(generate, tests: list[tuple[Tensor, Tensor]], space: nn.Module) -> dict[str, float]:
    rows = []
    for low, high in tests:
        with torch.no_grad():
            made = generate(low[None]).clamp(0, 1)[:, :, 4:-4, 4:-4]
            wanted = high[None, :, 4:-4, 4:-4]
            apart = [
                F.l1_loss(a, b) / b.abs().mean() for a, b in zip(_seen(space, made), _seen(space, wanted), strict=True)
            ]
        rows.append({**image_quality(made, wanted), "D's features": float(torch.stack(apart).mean())})
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _seen(space: nn.Module, image: Tensor) -> list[Tensor]:
    found = []
    for part in list(space.main)[:-1]:
        image = part(image)
        found.append(image)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=["G trained on", "AFL", "image alone", "fed a constant"])
    parser.add_argument("--out", type=Path, default=Path("runs/super_resolution"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (zipfile.ZipFile(options.data / f"sr_{name}.zip") for name in ("train_bsds", "test_set5_set14"))
    images = [opened(train, name) for name in train.namelist() if name.endswith(".jpg")]
    names = [name for name in test.namelist() if "/HR/" in name]
    tests = {
        which: [(opened(test, n.replace("/HR/", "/LRx4/")), opened(test, n)) for n in names if n.startswith(which)]
        for which in ("Set5", "Set14")
    }
    G = Compact()
    G.load_state_dict(load_file(options.data / "weights" / "realesr_animevideov3_x4_G.safetensors"))
    G.eval()
    pairs = lambda: Pairs(Patches(images, options.patch))  # noqa: E731
    path = options.out / "results.json"
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        torch.manual_seed(seed)
        D = PatchDiscriminator(3, 32)
        kept = options.out / f"critic_{seed}.safetensors"
        common = {"batch": options.batch, "seed": seed, "lr": 1e-4, "critic_lr": 1e-4, "value_range": (0.0, 1.0)}
        if kept.exists():
            load_model(D, kept)
        else:
            train_discriminator(
                *(G, D, pairs(), None, options.steps // 4), **{**common, **LOSSES, "loss": "bce"}, progress=False
            )
            save_model(D, str(kept))
        D.eval()
        space = copy.deepcopy(D)
        for row in ["base", *options.rows]:
            results = json.loads(path.read_text()) if path.exists() else {}
            if str(seed) in results.get(row, {}):
                continue
            started, generate = time.monotonic(), G
            torch.manual_seed(seed)
            if row == "G trained on":
                generate = copy.deepcopy(G)
                GAN(generate, copy.deepcopy(D), **common, **LOSSES).fit(pairs(), steps=options.steps, progress=False)
            elif row != "base":
                generate = head(G, copy.deepcopy(D), row)
                more = {"recalibrate": 0, "critic_ema": 0.0}
                out = options.out / f"{row.replace(' ', '_')}_{seed}"
                AFL(generate, **common, **LOSSES, **more).fit(
                    pairs(), steps=options.steps, progress=False, out=out, resume=True
                )
            found = {which: measured(generate, some, space) for which, some in tests.items()}
            found["seconds"] = time.monotonic() - started
            print(seed, row, found, flush=True)
            results = json.loads(path.read_text()) if path.exists() else {}
            results.setdefault(row, {})[str(seed)] = found
            path.write_text(json.dumps(results, indent=1))


def head(G: nn.Module, D: nn.Module, row: str) -> fbwrap.FeedbackLoop:
    source = "image" if row == "image alone" else "main.1"
    links = [(layer, source) for layer in LAYERS]
    loop = fbwrap.attach(G, D, links, module=MODULE, example=torch.rand(1, 3, 24, 24))
    if row == "fed a constant":
        for module in loop.feedback:
            own = module.forward
            module.forward = lambda feature, *signals, own=own: own(feature, *(torch.ones_like(s) for s in signals))
    return loop


if __name__ == "__main__":
    main()
