"""AFL §4.2 at the size of one core: Fashion-MNIST at 32x32, a DCGAN trained here, then a feedback head.

    python benchmarks/images.py --data DIR [--base dcgan] [--seeds 0 1 2] [--out runs/images]
    python benchmarks/images.py --data DIR --base sngan --steps 6000

With ``--base dcgan`` phase 1 trains G (batch norm, 32 channels at 16x16) against a D without norm: BCE, R1. Phase 2 is
that of docs/results/pretrained_mnist.md: a fresh D that also names the class (a semi-supervised GAN: ten logits l, the
GAN's logit is log sum exp l), warmed up on real images and G's; then, with the same D, loss, steps and averaging for
every row, a head learns with G frozen ("AFL": one pyramid module at 16x16, fed D's three stages), or G itself ("G
trained on"), or the same head fed noise, a constant or another image's features, in training and in the test ("plain
D": the head with the D of phase 1, which knows no classes). With ``--base sngan`` (spectral norm in D, hinge) phase 2
is AFL's own: the D and the loss of phase 1 go on, and three dual modules of two convolutions learn at 4x4, 8x8 and
16x16, fed features of the same size by a slow average of D. Measured with 10 000 samples against the 10 000 test
images, which nothing was trained on: Fréchet distance, precision and recall in the last hidden layer (64 numbers) of a
small classifier that this script trains on the training images' labels. It is not the Inception FID and compares with
nothing but itself. ``DIR`` holds fashion_mnist.npz. What is done is not done again.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL, GAN, train_discriminator
from fbwrap.recipes.metrics import Space
from fbwrap.recipes.networks import dcgan
from judges import trained_once
from results import Results
from rows import CONTROLS, samples, trained_row
from torch import Tensor, nn

import fbwrap

Z, SAMPLES = 64, 10_000
AS_MEASURED = {"warmup": 0, "critic_steps": 1, "held_out": 0}  # the defaults of AFL were these then
COMMON = {"loss": "bce", "batch": 64, "r1": 1.0, "critic_lr": 2e-4, "betas": (0.5, 0.999), "mixed_precision": "bf16",
          **AS_MEASURED}  # fmt: skip
BASE = {**COMMON, "lr": 2e-4, "ema": 0.999}
PHASE_2 = {**COMMON, "critic_lr": 4e-4}
RATES = {"head": 3e-4, "G trained on": 1e-3}
WARMUP = 1000
LINK = ("main.2", ["main.0", "main.1", "main.2"])
SNGAN = {
    "loss": "hinge", "batch": 64, "r1": 0.0, "critic_lr": 2e-4, "betas": (0.0, 0.9), "critic_mode": "train",
    "ema": 0.999, "mixed_precision": "bf16", **AS_MEASURED,
}  # fmt: skip
SNGAN_RATES = {"head": 1e-4, "G trained on": 2e-4}  # a head at 2e-4 leaves the base behind, for the worse
SNGAN_FEEDBACK = 0.9999  # of D's average that gives the feedback: over about a tenth of the steps
SNGAN_LINKS = [(f"main.{i}", f"main.{2 - i}") for i in range(3)]
SNGAN_MODULE = {"kind": "dual", "convs": 2}


class Classifier(nn.Module):
    """The feature space: (N, 1, 32, 32) to 64 features, and from there to ten classes."""

    def __init__(self) -> None:
        super().__init__()

        def stage(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))

        self.features = nn.Sequential(
            stage(1, 32), stage(32, 64), stage(64, 128), nn.Flatten(), nn.Linear(128 * 16, 64), nn.ReLU()
        )
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class Naming(nn.Module):
    """A critic with ten class logits; its stages have the sizes of phase 1's."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(*list(dcgan.Discriminator(32, 32, "none", 1).main)[:-1])
        self.last = nn.Linear(128 * 16, 10)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.last(self.main(x).flatten(1))


def realness(logits: Tensor) -> Tensor:
    return logits.logsumexp(1, keepdim=True) - math.log(10)


def naming_loss(logits: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(logits, batch[1])


def latents(n: int) -> Tensor:
    return torch.randn(n, Z, 1, 1)


def images(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) in [-1, 1], and labels."""
    with np.load(path) as z:
        x, y = torch.from_numpy(z[f"x_{part}"]), torch.from_numpy(z[f"y_{part}"]).long()
    return F.pad(x[:, None].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0), y


def classifier(x: Tensor, y: Tensor, path: Path, epochs: int = 3) -> Classifier:
    def loss(net: Classifier) -> Tensor:
        rows = torch.randint(len(x), (128,))
        return F.cross_entropy(net(x[rows]), y[rows])

    return trained_once(Classifier, loss, path, epochs * len(x) // 128)


def trained_base(
    real: Tensor, seed: int, steps: int, out: Path, kind: str, precision: str = "bf16"
) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    G = dcgan.Generator(Z, 32, 32, 1)
    D = dcgan.Discriminator(32, 32, "spectral" if kind == "sngan" else "none", 1)
    options = {**({**SNGAN, "lr": 2e-4} if kind == "sngan" else BASE), "mixed_precision": precision}
    GAN(G, D, **options, seed=seed).fit(real, latents, steps, out=out, resume=True, progress=False)
    return G.eval(), D.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", choices=("dcgan", "sngan"), default="dcgan")
    parser.add_argument("--base-steps", type=int, help="16 000 of the DCGAN, 12 000 of the SN-GAN")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="all of AFL, 'G trained on', the controls, and 'plain D'")
    parser.add_argument("--out", type=Path, default=Path("runs/images"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sngan = options.base == "sngan"
    rows = options.rows or ["AFL", "G trained on", *CONTROLS, *(() if sngan else ("plain D",))]
    out: Path = options.out
    results = Results(out)
    x, y = images(options.data / "fashion_mnist.npz", "train")
    test, test_y = images(options.data / "fashion_mnist.npz", "test")
    net = classifier(x, y, out / "classifier.safetensors")
    space = Space("small Fashion-MNIST classifier, 64-d", net.features)
    right = lambda: {"accuracy": float((net(test).argmax(1) == test_y).double().mean())}  # noqa: E731

    def measured(generate: Callable[[Tensor], Tensor]) -> dict[str, float]:
        found = space.distances(samples(generate, latents, SAMPLES), test)
        return {key.split("[")[0]: value for key, value in found.items() if not key.startswith("kid")}

    with torch.no_grad():
        results.once(
            "training images", 0, lambda: {**measured(lambda z: x[torch.randperm(len(x))[: len(z)]]), **right()}
        )
    for seed in options.seeds:
        steps = options.base_steps or (12_000 if sngan else 16_000)
        G, D = trained_base(x, seed, steps, out / f"base_{seed}", options.base)
        results.once("base", seed, lambda: measured(G))
        if sngan:
            for row in rows:
                results.once(row, seed, lambda: own_phase_2(row, G, D, x, seed, options, measured))
            continue
        new = warmed(G, (x, y), seed, out / f"critic_{seed}")
        for row in rows:
            given = (G, D, x) if row == "plain D" else (G, new, (x, y))
            results.once(row, seed, lambda: phase_2(row, *given, seed, options, measured))
    order = ["training images", "base", "G trained on", "AFL", *CONTROLS, "plain D"]
    print(results.table(["frechet", "precision", "recall"], order))


def warmed(G: nn.Module, real: tuple[Tensor, Tensor], seed: int, out: Path) -> nn.Module:
    """A D that names classes and knows this G's faults; the same for every row of a seed."""
    torch.manual_seed(seed)
    D = Naming()
    options = {**PHASE_2, "response": realness, "auxiliary": naming_loss, "decay": "none", "seed": seed}
    train_discriminator(G, D, real, latents, WARMUP, out=out, resume=True, progress=False, **options)
    return D.eval()


def own_phase_2(row: str, G: nn.Module, D: nn.Module, real: Tensor, seed: int, options: Any, measured) -> dict:
    """A row of AFL's own phase 2, from the SN-GAN pair."""
    common = {**SNGAN, "seed": 1000 + seed}
    return trained_row(
        *(row, G, D, real, latents, options.out, options.steps, 1000 + seed, measured),
        whole=lambda net, critic: GAN(net, critic, lr=SNGAN_RATES["G trained on"], **common),
        attach=lambda: fbwrap.attach(G, D, SNGAN_LINKS, module=SNGAN_MODULE, example=latents(2)),
        head=lambda loop: AFL(loop, lr=SNGAN_RATES["head"], critic_ema=SNGAN_FEEDBACK, **common),
    )


def phase_2(row: str, G: nn.Module, D: nn.Module, real: Any, seed: int, options: Any, measured) -> dict:
    """A row of the DCGAN's phase 2, with the D that names classes but for "plain D"."""
    named = row != "plain D"
    common = {**PHASE_2, "seed": 1000 + seed, **({"auxiliary": naming_loss} if named else {})}
    response = {"response": realness} if named else {}
    return trained_row(
        *(row, G, D, real, latents, options.out, options.steps, 1000 + seed, measured),
        whole=lambda net, critic: GAN(
            net, critic, lr=RATES["G trained on"], generator_mode="eval", **response, **common
        ),
        attach=lambda: fbwrap.attach(G, D, [LINK], module="pyramid", example=latents(2), **response),
        head=lambda loop: AFL(loop, lr=RATES["head"], **common),
    )


if __name__ == "__main__":
    main()
