r"""FAL's Table 4 at the size that a machine at hand can train: ModelNet10 voxels, VoxelGAN with and without feedback.

    python benchmarks/voxels.py --data DIR --size 16 --mixed-precision bf16 --classes bed --steps 900 1800
    python benchmarks/voxels.py --data DIR --device cuda --classes chair bed monitor --steps 2000 4000 8000

One pair of networks per class (``fbwrap.recipes.networks.voxel``), WGAN-GP, three D steps. "VoxelGAN": G and D alone.
"FAL": AST at 4x4x4, fed the last cube and D's response cube, T = 3, G, D and the head learning together, every step
judged, as published. "FAL, last judged": the losses are of y_T alone, and the feedback is that of an average of D.
"FAL after VoxelGAN": the same from a VoxelGAN of ``--base-steps`` on. Each is measured after every number of
``--steps``, a base's included; all rates are constant, so that these are stations of one run. ``--size 16``: cubes of
16x16x16, a voxel full where one of its eight was.

Measured on 1000 samples, cut at one half: the share that a 10-way classifier (trained by this script on the training
cubes) takes for the class, the probability that it gives the class, the Fréchet distance to the class's training cubes
in the classifier's last hidden layer, and two overlaps that no classifier has a say in: "like" is a sample's
intersection over union with the training cube that it overlaps most, mean over samples (are they beds?); "covers" is a
training cube's with the sample that overlaps it most, mean over training cubes (are there all kinds of beds?); and the
mean number of full voxels, of the training cubes'. ``DIR`` holds voxels_modelnet10_32.npz. What is done is not done
again.
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

Z, SAMPLES, MOST = 64, 1000, 5  # latents; samples; steps of feedback, two beyond training
OPTIONS: dict[str, Any] = {
    "loss": "wasserstein_gp", "gradient_penalty": 10.0, "critic_steps": 3, "r1": 0.0, "lr": 2e-4, "critic_lr": 4e-4,
    "betas": (0.5, 0.9), "batch": 16, "critic_mode": "train", "ema": 0.995, "decay": "none", "value_range": (0.0, 1.0),
    "save_every": 1000, "trackers": "none",
}  # fmt: skip
AST = {"kind": "ast", "scale": 1 / 30}  # D's response is tens to hundreds, voxels are 0 and 1
LAST = {"loss_steps": "last", "critic_ema": 0.995}
ROWS = ("VoxelGAN", "FAL", "FAL, last judged", "FAL after VoxelGAN")


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


def drift(answer: Tensor, real: Tensor) -> Tensor:
    """A Wasserstein critic is free to drift: D's answers to real cubes stay near zero (Karras et al. 2018)."""
    return 1e-3 * answer.float().square().mean()


class Bench:
    """One class and seed: its rows, trained and measured at each number of steps."""

    def __init__(self, name: str, seed: int, real: Tensor, measure: Callable, results: Results, options: Any):
        self.name, self.seed, self.real, self.measure = name, seed, real, measure
        self.results, self.options = results, options

    def run(self, row: str) -> None:
        """Train a row to its last station; what is measured is not trained again."""
        last = f"{self.name}: {row}, {self.options.steps[-1]} steps" + (f", t = {MOST}" if row != "VoxelGAN" else "")
        if self.seed not in self.results.rows().get(last, {}):
            (self._plain if row == "VoxelGAN" else self._fal)(row)

    def _pair(self) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(self.seed)
        size, width = self.options.size, self.options.width
        nets = voxel.Generator(Z, width, size), voxel.Discriminator(width, size)
        return tuple(net.to(self.real.device) for net in nets)  # type: ignore[return-value]

    def _latents(self, n: int) -> Tensor:
        return torch.randn(n, Z, device=self.real.device)

    def _recipe(self, **more: Any) -> dict[str, Any]:
        given = {**OPTIONS, "mixed_precision": self.options.mixed_precision, "seed": self.seed, "auxiliary": drift}
        return {**given, **more}

    def _fit(self, recipe: Any, folder: str, steps: int) -> float:
        """Train up to a number of steps, and return the seconds of all of them."""
        out = self.options.out / f"{self.name}_{self.seed}" / folder
        return recipe.fit(self.real, self._latents, steps, out=out, resume=True, progress=False).seconds

    def _plain(self, row: str) -> None:
        G, D = self._pair()
        recipe = GAN(G, D, **self._recipe())
        for steps in self.options.steps:
            seconds = self._fit(recipe, row, steps)
            with torch.no_grad():
                (made,) = self._generated(lambda z: [G.eval()(z)])
            self._told(f"{row}, {steps} steps", made, seconds)

    def _fal(self, row: str) -> None:
        G, D = self._pair()
        base = self.options.base_steps if row == "FAL after VoxelGAN" else 0
        spent = self._fit(GAN(G, D, **self._recipe()), "base", base) if base else 0.0
        loop = fbwrap.attach(G, D, [self.options.link], module=AST, steps=3, example=self._latents(2))
        more = {} if row == "FAL" else LAST
        recipe = FAL(loop, **self._recipe(**more, **({"seed": self.seed + 1000} if base else {})))
        for steps in (steps for steps in self.options.steps if steps > base):
            seconds = spent + self._fit(recipe, row, steps - base)
            G.eval()
            made = self._generated(lambda z: loop.rollout(z, steps=MOST).outputs[1:])
            for t, samples in enumerate(made, 1):
                self._told(f"{row}, {steps} steps, t = {t}", samples, seconds)

    def _told(self, row: str, samples: Tensor, seconds: float) -> None:
        numbers = {**self.measure(samples), "training": seconds}
        self.results.once(f"{self.name}: {row}", self.seed, lambda: numbers)

    @torch.no_grad()
    def _generated(self, generate: Callable[[Tensor], Any]) -> list[Tensor]:
        """Of the same 1000 latents for every row, each step's cubes."""
        z = torch.randn(SAMPLES, Z, generator=torch.Generator().manual_seed(12345)).to(self.real.device)
        return [torch.cat(parts) for parts in zip(*(generate(part) for part in z.split(50)), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--classes", nargs="+", default=["chair", "bed", "monitor"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--steps", type=int, nargs="+", default=[900, 1800])
    parser.add_argument("--base-steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, choices=(16, 32), default=32)
    parser.add_argument("--width", type=int, help="channels at half the size; so that there are 64 at 4x4x4")
    parser.add_argument("--link", default="mix.1", help="the layer of G that AST transforms")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--out", type=Path, default=Path("runs/voxels"))
    options = parser.parse_args()
    options.width = options.width or 64 * 8 // options.size
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    results, device = Results(options.out), torch.device(options.device)
    held, size = options.data / "voxels_modelnet10_32.npz", options.size
    x, y, names = cubes(held, "train", size)
    test, test_y, _ = cubes(held, "test", size)
    x, y, test = x.to(device), y.to(device), test.to(device)
    net = classifier(x, y, options.out / "classifier.safetensors")

    @torch.no_grad()
    def measured(samples: Tensor, label: int) -> dict[str, float]:
        whole, real = (samples > 0.5).float(), x[y == label]
        odds = features(net, whole, 100).softmax(1)
        distance = frechet_distance(features(net.features, whole, 100), features(net.features, real, 100))
        shared = overlaps(whole, real)
        return {
            "accuracy": float((odds.argmax(1) == label).double().mean()),
            "probability": float(odds[:, label].mean()),
            "frechet": distance,
            "like": float(shared.amax(1).mean()),
            "covers": float(shared.amax(0).mean()),
            "full": float(whole.mean() / real.mean()),
        }

    for name in options.classes:
        label = names.index(name)
        results.once(f"{name}: test cubes", 0, lambda: measured(test[test_y == label], label))
        for seed in options.seeds:
            bench = Bench(name, seed, x[y == label], lambda samples: measured(samples, label), results, options)
            for row in options.rows:
                bench.run(row)
    columns = ["accuracy", "probability", "frechet", "like", "covers", "full", "training"]
    print(results.table(columns, [row for name in options.classes for row in order(name, options.steps)]))


def order(name: str, stations: list[int]) -> list[str]:
    """The rows of a class, as the table has them."""
    found = [f"{name}: test cubes"]
    for steps in stations:
        found.append(f"{name}: VoxelGAN, {steps} steps")
        found += [f"{name}: {row}, {steps} steps, t = {t}" for row in ROWS[1:] for t in range(1, MOST + 1)]
    return found


if __name__ == "__main__":
    main()
