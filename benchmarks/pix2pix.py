"""FAL on label maps to photographs (FAL §5.2, Table 2), at the size of one core: CMP facades at 128x128.

    python benchmarks/pix2pix.py --data DIR [--steps 6000] [--seeds 0] [--out runs/pix2pix]

pix2pix with a residual generator (six blocks, instance norm), a patch discriminator, LSGAN and L1 x 10, batch 1, as
in FAL. "FAL": AST after the encoder, fed the last photograph and D's response map, T = 3, G, D and the head learning
together. "pix2pix": the same G and D without feedback, for as many steps; "same time": for as long as FAL took.
Measured on the 100 validation pairs:

- *perceptual*: LPIPS's distance (unit-length features, squared differences, mean over layers) to the true photograph,
  in the features of a segmentation network that this script trains on the training photographs. It is not LPIPS's own
  network: its numbers compare with nothing but each other.
- *segmentation*: the share of pixels, and the mean IoU, at which that network reads the label map back from the
  generated photograph; on true photographs in the first row.
- *response*: the mean response of each model's own D (LSGAN: 1 is real).

``DIR`` holds facades.zip. What is done is not done again.
"""

import argparse
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fbwrap.recipes import FAL, GAN, Pairs
from fbwrap.recipes.metrics.quality import image_quality, segmentation
from fbwrap.recipes.networks.residual import Block, PatchDiscriminator, TranslationGenerator
from judges import trained_once
from PIL import Image
from results import Results
from torch import Tensor, nn

import fbwrap

WIDTH, BLOCKS, MOST = 16, 6, 6
OPTIONS: dict[str, Any] = {
    "loss": "least_squares", "reconstruction": 10.0, "lr": 2e-4, "critic_lr": 2e-4, "batch": 1, "r1": 0.0,
    "critic_mode": "train", "decay": "linear", "ema": 0.999,
}  # fmt: skip
PALETTE = torch.tensor(
    [(0, 0, 170), (0, 0, 255), (255, 85, 0), (0, 255, 255), (255, 0, 0), (0, 85, 255), (0, 170, 255), (85, 255, 170),
     (255, 255, 0), (170, 255, 85), (170, 0, 0), (255, 170, 0)]
)  # fmt: skip


class Segmenter(nn.Module):
    """Photographs (N, 3, H, W) to twelve classes a pixel: a small U-net."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def stage(a: int, b: int, stride: int = 1) -> nn.Sequential:
            first = nn.Conv2d(a, b, 3, stride, 1, bias=False)
            second = nn.Conv2d(b, b, 3, 1, 1, bias=False)
            return nn.Sequential(first, nn.BatchNorm2d(b), nn.ReLU(), second, nn.BatchNorm2d(b), nn.ReLU())

        widths = [width, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            stage(a, b, 1 if a == 3 else 2) for a, b in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            stage(a, b) for a, b in ((8 * width, 2 * width), (4 * width, width), (2 * width, width))
        )
        self.last = nn.Conv2d(width, 12, 1)

    def features(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.down:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        *skips, h = self.features(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            h = up(torch.cat((F.interpolate(h, scale_factor=2), skip), 1))
        return self.last(h)


def facades(path: Path, part: str, size: int) -> tuple[Tensor, Tensor]:
    """Label maps and photographs in [-1, 1], both (N, 3, size, size)."""
    maps, photos = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(n for n in archive.namelist() if n.startswith(f"{part}/") and n.endswith(".jpg")):
            picture = torch.from_numpy(np.asarray(Image.open(io.BytesIO(archive.read(name)))).copy()).permute(2, 0, 1)
            photo, labels = picture[:, :, :256].float(), picture[:, :, 256:].float()
            small = lambda x: F.interpolate(x[None], (size, size), mode="area")[0] / 127.5 - 1  # noqa: E731
            maps.append(small(labels))
            photos.append(small(photo))
    return torch.stack(maps), torch.stack(photos)


def classes(maps: Tensor) -> Tensor:
    """The nearest colour's class, (N, H, W)."""
    colours = (PALETTE.float() / 127.5 - 1).view(12, 3, 1, 1)
    return torch.stack([(m - colours).square().sum(1).argmin(0) for m in maps])


def augmented(*images: Tensor) -> tuple[Tensor, ...]:
    """pix2pix's jitter: a crop of nine tenths brought back to size, mirrored or not; alike for all."""
    side = images[0].shape[-1]
    cut = side - side // 10
    top, left, mirrored = *(int(n) for n in torch.randint(side - cut + 1, (2,))), bool(torch.rand(()) < 0.5)
    found = []
    for image in images:
        part = F.interpolate(image[..., top : top + cut, left : left + cut], (side, side), mode="nearest")
        found.append(part.flip(-1) if mirrored else part)
    return tuple(found)


class Jittered:
    """Pairs with pix2pix's augmentation."""

    def __init__(self, maps: Tensor, photos: Tensor):
        self._maps, self._photos = maps, photos

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        a, b = augmented(self._maps[row : row + 1], self._photos[row : row + 1])
        return a[0], b[0]


def segmenter(maps: Tensor, photos: Tensor, path: Path, steps: int = 1500) -> Segmenter:
    wanted = classes(maps)[:, None].float()

    def loss(net: Segmenter) -> Tensor:
        rows = torch.randint(len(maps), (4,))
        photo, label = augmented(photos[rows], wanted[rows])
        return F.cross_entropy(net(photo * (0.8 + 0.4 * torch.rand(4, 1, 1, 1))), label[:, 0].long())

    return trained_once(Segmenter, loss, path, steps)


class Measures:
    """Of generated photographs, in the segmentation network's eyes."""

    def __init__(self, net: Segmenter, maps: Tensor, photos: Tensor):
        self._net, self._classes, self._photos = net, classes(maps), photos

    @torch.no_grad()
    def __call__(self, made: Tensor) -> dict[str, float]:
        apart, read = [], []
        for row in range(len(made)):
            one, true = made[row : row + 1], self._photos[row : row + 1]
            pairs = zip(self._net.features(one), self._net.features(true), strict=True)
            layers = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs]
            apart.append(torch.stack(layers).mean())
            read.append(self._net(one).argmax(1))
        scores = segmentation(torch.cat(read), self._classes, 12)
        quality = image_quality(made, self._photos, (-1.0, 1.0))
        return {
            "perceptual": float(torch.stack(apart).mean()),
            "pixels": scores["pixels"],
            "IoU": scores["IoU"],
            "rmse": quality["rmse"],
        }


def pair(seed: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    block = lambda width: Block(width, width, norm="instance")  # noqa: E731 -- pre-activation; CycleGAN's is not
    return TranslationGenerator(3, 3, WIDTH, BLOCKS, block), PatchDiscriminator(6, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pix2pix"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, out = Results(options.out), options.out
    maps, photos = facades(options.data / "facades.zip", "train", options.size)
    val_maps, val_photos = facades(options.data / "facades.zip", "val", options.size)
    net = segmenter(maps, photos, out / "segmenter.safetensors")
    measure = Measures(net, val_maps, val_photos)
    results.once("true photographs", 0, lambda: measure(val_photos))
    for seed in options.seeds:
        pairs, folder = lambda: Pairs(Jittered(maps, photos)), out / f"seed_{seed}"
        took = feedback(seed, pairs, options.steps, folder, results, val_maps, measure)
        for row, steps in (("pix2pix", options.steps), ("pix2pix, same time", None)):
            results.once(row, seed, lambda: plain(seed, pairs, steps, took, folder, val_maps, measure))
    order = ["true photographs", "pix2pix", "pix2pix, same time", *(f"FAL t = {t}" for t in range(1, MOST + 1))]
    print(results.table(["perceptual", "pixels", "IoU", "rmse", "response"], order))


@torch.no_grad()
def answered(D: nn.Module, maps: Tensor, made: Tensor) -> float:
    D.eval()
    return float(torch.stack([D(torch.cat(both, 0)[None]).mean() for both in zip(maps, made, strict=True)]).mean())


def feedback(seed: int, pairs: Callable, steps: int, folder: Path, results: Results, maps: Tensor, measure) -> float:
    """FAL's rows, one per step; returns the seconds of its training."""
    last = f"FAL t = {MOST}"
    if seed in results.rows().get(last, {}):
        return float(results.rows()[last][seed]["training"])
    G, D = pair(seed)
    loop = fbwrap.attach(
        G, D, ["encoder"], module="ast", steps=3, critic_input="condition_and_output", example=maps[:1]
    )
    recipe = FAL(loop, **OPTIONS, seed=seed)
    fit = recipe.fit(pairs(), steps=steps, out=folder / "fal", resume=True, progress=False)
    G.eval()
    with torch.no_grad():
        outputs = zip(*(loop.rollout(m[None], steps=MOST).outputs[1:] for m in maps), strict=True)
    for t, made in enumerate(outputs, 1):
        whole = torch.cat(made)
        more = {"response": answered(loop.discriminator, maps, whole), "training": fit.seconds}
        results.once(f"FAL t = {t}", seed, lambda: {**measure(whole), **more})
    return fit.seconds


def plain(seed: int, pairs: Callable, steps: int | None, most: float, folder: Path, maps: Tensor, measure) -> dict:
    """pix2pix, for a number of steps or of seconds."""
    G, D = pair(seed)
    held = {**OPTIONS, "seed": seed, "critic_input": "condition_and_output"}
    if steps is None:
        steps = round(most / (GAN(*pair(seed), **held).fit(pairs(), steps=40, progress=False).seconds / 40))
    out = folder / f"plain_{steps}"
    fit = GAN(G, D, **held).fit(pairs(), steps=steps, out=out, resume=True, progress=False)
    G.eval()
    with torch.no_grad():
        made = torch.cat([G(m[None]) for m in maps])
    return {**measure(made), "response": answered(D, maps, made), "training": fit.seconds, "steps": steps}


if __name__ == "__main__":
    main()
