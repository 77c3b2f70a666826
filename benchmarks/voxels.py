r"""FAL's Table 4 at the size of one core: ModelNet10 voxels of 32x32x32, VoxelGAN with and without feedback.

    python benchmarks/voxels.py --data DIR [--classes chair] [--seeds 0] [--steps 700] [--out runs/voxels]
    python benchmarks/voxels.py --data DIR --size 16 --steps 2000 --link mix.1 --mixed-precision bf16 \
        --classes bed chair monitor

One pair of networks per class (``fbwrap.recipes.networks.voxel``), WGAN-GP. "FAL": AST at 8x8x8 (``--link mix.1``: at
4x4x4), fed the last cube and D's response cube, T = 3, G, D and the head learning together. "VoxelGAN": the same G and
D without feedback, for as many steps; "same time": for as long as FAL took. ``--size 16``: cubes of 16x16x16, a voxel
full where one of its eight was. Measured on 1000 samples, cut at one half: the share that a 10-way classifier (trained
by this script on the training cubes) takes for the class, the probability that it gives the class, the Fréchet
distance to the class's training cubes in the classifier's last hidden layer, and two overlaps that no classifier has a
say in: "like" is a sample's intersection over union with the training cube that it overlaps most, mean over samples
(are they beds?); "covers" is a training cube's with the sample that overlaps it most, mean over training cubes (are
there all kinds of beds?). ``DIR`` holds voxels_modelnet10_32.npz. What is done is not done again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fbwrap.recipes import FAL, GAN
from fbwrap.recipes.metrics import features, frechet_distance
from fbwrap.recipes.networks import voxel
from judges import trained_once
from results import Results
from torch import Tensor, nn

import fbwrap

Z, WIDTH, SAMPLES, MOST = 64, 64, 1000, 5  # latents; channels at 4x4x4; samples; steps of feedback, two beyond training
OPTIONS: dict[str, Any] = {
    "loss": "wasserstein_gp", "gradient_penalty": 10.0, "critic_steps": 1, "r1": 0.0, "lr": 2e-4, "critic_lr": 4e-4,
    "betas": (0.5, 0.9), "batch": 16, "critic_mode": "train", "ema": 0.995, "decay": "none", "value_range": (0.0, 1.0),
}  # fmt: skip


class Classifier(nn.Module):
    """(N, 1, size, size, size) to 64 features, and from there to ten classes."""

    def __init__(self, size: int) -> None:
        super().__init__()

        def stage(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv3d(a, b, 4, 2, 1, bias=False), nn.BatchNorm3d(b), nn.ReLU())

        self.features = nn.Sequential(
            *(stage(1, 16), stage(16, 32), stage(32, 64), nn.Flatten(), nn.Dropout(0.3)),
            *(nn.Linear(64 * (size // 8) ** 3, 64), nn.ReLU()),
        )
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def latents(n: int) -> Tensor:
    return torch.randn(n, Z)


def cubes(path: Path, part: str, size: int) -> tuple[Tensor, Tensor, list[str]]:
    with np.load(path) as z:
        x = torch.from_numpy(np.unpackbits(z[f"x_{part}"], axis=-1))[:, None].float()
        x = F.max_pool3d(x, x.shape[-1] // size)
        return x, torch.from_numpy(z[f"y_{part}"]).long(), [str(name) for name in z["class_names"]]


def classifier(x: Tensor, y: Tensor, path: Path, steps: int = 1200) -> Classifier:
    def loss(net: Classifier) -> Tensor:
        """Of cubes that are mirrored and moved by up to two voxels."""
        rows = torch.randint(len(x), (64,), device=x.device)
        batch = torch.roll(x[rows], [int(n) for n in torch.randint(-2, 3, (3,))], (2, 3, 4))
        return F.cross_entropy(net(batch.flip(2) if torch.rand(()) < 0.5 else batch), y[rows])

    return trained_once(lambda: Classifier(x.shape[-1]).to(x.device), loss, path, steps)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every cube of a with every cube of b, of zeros and ones: (len(a), len(b))."""
    a, b = a.flatten(1), b.flatten(1)
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both).clamp_min(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=["chair"])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, choices=(16, 32), default=32)
    parser.add_argument("--link", default="up.0", help="the layer of G that AST transforms")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--out", type=Path, default=Path("runs/voxels"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, out = Results(options.out), options.out
    held, size = options.data / "voxels_modelnet10_32.npz", options.size
    x, y, names = cubes(held, "train", size)
    test, test_y, _ = cubes(held, "test", size)
    net = classifier(x, y, out / "classifier.safetensors")

    @torch.no_grad()
    def measured(samples: Tensor, label: int) -> dict[str, float]:
        whole = (samples > 0.5).float()
        odds = torch.cat([net(part) for part in whole.split(100)]).softmax(1)
        distance = frechet_distance(features(net.features, whole, 100), features(net.features, x[y == label], 100))
        shared = overlaps(whole, x[y == label])
        return {
            "accuracy": float((odds.argmax(1) == label).double().mean()),
            "probability": float(odds[:, label].mean()),
            "frechet": distance,
            "like": float(shared.amax(1).mean()),
            "covers": float(shared.amax(0).mean()),
        }

    for name in options.classes:
        label = names.index(name)
        real = x[y == label]
        results.once(f"{name}: test cubes", 0, lambda: measured(test[test_y == label], label))
        for seed in options.seeds:
            took = fal(name, seed, real, options, results, lambda s: measured(s, label))
            for row, steps in (("VoxelGAN", options.steps), ("VoxelGAN, same time", None)):
                results.once(
                    f"{name}: {row}",
                    seed,
                    lambda: plain(
                        seed, real, steps, took, out / f"{name}_{seed}", options, lambda s: measured(s, label)
                    ),
                )
    rows = ("test cubes", "VoxelGAN", "VoxelGAN, same time", *(f"FAL t = {t}" for t in range(1, MOST + 1)))
    order = [f"{name}: {row}" for name in options.classes for row in rows]
    print(results.table(["accuracy", "probability", "frechet", "like", "covers"], order))


@torch.no_grad()
def generated(generate: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Of the same 1000 latents for every row, each step's cubes."""
    z = torch.randn(SAMPLES, Z, generator=torch.Generator().manual_seed(12345))
    return [torch.cat(parts) for parts in zip(*(generate(part) for part in z.split(50)), strict=True)]


def pair(seed: int, size: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    width = WIDTH * 8 // size
    return voxel.Generator(Z, width, size), voxel.Discriminator(width, size)


def recipe_of(options: Any, seed: int) -> dict[str, Any]:
    """The options of every row's training."""
    return {**OPTIONS, "mixed_precision": options.mixed_precision, "seed": seed}


def fal(name: str, seed: int, real: Tensor, options: Any, results: Results, measure: Callable) -> float:
    """FAL's rows, one per step; returns the seconds of its training."""
    out = options.out / f"{name}_{seed}" / "fal"
    last = f"{name}: FAL t = {MOST}"
    if seed in results.rows().get(last, {}):
        return float(results.rows()[last][seed]["training"])
    G, D = pair(seed, options.size)
    loop = fbwrap.attach(G, D, [options.link], module="ast", steps=3, example=latents(2))
    fit = FAL(loop, **recipe_of(options, seed)).fit(real, latents, options.steps, out=out, resume=True, progress=False)
    G.eval()
    outputs = generated(lambda z: loop.rollout(z, steps=MOST).outputs[1:])
    for t, samples in enumerate(outputs, 1):
        results.once(f"{name}: FAL t = {t}", seed, lambda: {**measure(samples), "training": fit.seconds})
    return fit.seconds


def plain(
    seed: int, real: Tensor, steps: int | None, most: float, out: Path, options: Any, measure: Callable
) -> dict[str, float]:
    """VoxelGAN, for a number of steps or of seconds."""
    recipe = recipe_of(options, seed)
    if steps is None:
        pace = GAN(*pair(seed, options.size), **recipe).fit(real, latents, 20, progress=False).seconds / 20
        steps = round(most / pace)
    G, D = pair(seed, options.size)
    folder = out / f"plain_{steps}"
    fit = GAN(G, D, **recipe).fit(real, latents, steps, out=folder, resume=True, progress=False)
    G.eval()
    return {**measure(generated(lambda z: [G(z)])[0]), "training": fit.seconds, "steps": steps}


if __name__ == "__main__":
    main()
