"""What the defaults do to published pairs: layers="auto", AFL(loop, loss=...).fit(images, latents), nothing else said.

    python benchmarks/defaults.py --data DATA --weights WEIGHTS [--pairs wgangp_mnist] [--steps 120 600] [--seeds 0]

Each pair is trained on its training images and measured once on test images that nothing else has seen: the Fréchet
distance of 10 000 samples in the features of a classifier (of faces, which have no data here: in random features, to
other samples of the same G). Printed beside it is what the recipe itself found, without labels and without a trained
network, on held-out training images: the ratio to the base, and the strength that it stored.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fbwrap.recipes import AFL, GAN
from fbwrap.recipes.metrics import PixelSpace, features, frechet_distance
from from_examples import example
from results import Results
from torch import Tensor

import fbwrap

STRENGTHS = (0.1, 0.25, 0.5, 1.0)


def mnist(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    with np.load(folder / "mnist.npz") as z:
        x, y, test = (torch.from_numpy(z[name]) for name in ("x_train", "y_train", "x_test"))
    return x[:, None].float() / 127.5 - 1, y.long(), test[:, None].float() / 127.5 - 1


class Case:
    """A pair, its data, and the Fréchet distance to its test images.

    Args:
        base_seed, precision: of the bases that are trained here, those of clothes.
    """

    def __init__(self, name: str, data: Path, weights: Path, out: Path, base_seed: int = 0, precision: str = "bf16"):
        known = example("networks")
        self.name, self.loss, self.how, self.space = name, "bce", {}, None
        self._perceptual: Callable[[Callable[..., Any]], float] | None = None  # of pairs
        if name == "wgangp_mnist":
            self.G, self.D, self.loss = known.WganMnistG(), known.WganMnistD(), "wasserstein_gp"
            self.real, _, test = mnist(data)
            self.latents: Callable[[int], Any] = lambda n: torch.randn(n, 64, 1, 1)
        elif name == "cvaegan_mnist":
            self.G, self.D, self.how = known.CvaeGanG(), known.CvaeGanD(), {"critic_input": "output_and_label"}
            x, y, test = mnist(data)
            self.real, self.latents = (x, y), lambda n: (torch.randn(n, 64), torch.randint(0, 10, (n,)))
        elif name == "dcgan_faces32":
            self.G, self.D = known.FacesG(), known.FacesD()
            self.latents = lambda n: torch.rand(n, 100, 1, 1) * 2 - 1
        elif name.startswith("voxels_"):
            test = self._voxels(name.removeprefix("voxels_"), data, out, base_seed)
        elif name == "facades":
            self._perceptual = self._facades(data, out, base_seed)
            return
        else:
            import images as fashion

            kind = name.removeprefix("fashion_")
            real, labels = fashion.images(data / "fashion_mnist.npz", "train")
            test, _ = fashion.images(data / "fashion_mnist.npz", "test")
            folder = out / (f"{name}-base{base_seed}" if base_seed else name)
            self.G, self.D = fashion.trained_base(real, base_seed, 6000, folder, kind, precision)
            self.real, self.latents, self.loss = real, fashion.latents, {"sngan": "hinge", "dcgan": "bce"}[kind]
            self.space = fashion.classifier(real, labels, out / "fashion.safetensors").features.eval()
        if not name.startswith(("fashion", "voxels")):
            for net, end in ((self.G, "G"), (self.D, "D")):
                known.load(net, weights / f"{name}_{end}.safetensors")
                net.eval()
        if name == "dcgan_faces32":  # its data is not here: its own samples stand in, a base that cannot be bettered
            self.real, test = self.samples(self.G, 20_000, 1), self.samples(self.G, 10_000, 2)
            self.space = PixelSpace(test[:4000])._spaces[1]
        elif self.space is None:
            self.space = known.load(known.LeNet(), weights / "lenet_mnist.safetensors").eval()
        self._test = features(self.space, test)

    def _voxels(self, kind: str, data: Path, out: Path, seed: int) -> Tensor:
        """A VoxelGAN of one class at 16x16x16, trained here for 1500 steps. Returns the test cubes."""
        import voxels

        (x, y, names), (tests, labels, _) = (
            voxels.cubes(data / "voxels_modelnet10_32.npz", part, 16) for part in ("train", "test")
        )
        self.space = voxels.classifier(x, y, out / "voxels.safetensors").features.eval()
        self.real, self.latents = x[y == names.index(kind)], voxels.latents
        torch.manual_seed(seed)
        self.G, self.D = voxels.voxel.Generator(voxels.Z, 16, 16), voxels.voxel.Discriminator(16, 16)
        GAN(self.G, self.D, **voxels.OPTIONS, auxiliary=voxels.drift, seed=seed).fit(
            self.real, self.latents, 1500, out=out / f"voxels_{kind}-base{seed}", resume=True, progress=False
        )
        self.G.eval(), self.D.eval()
        return tests[labels == names.index(kind)]

    def _facades(self, data: Path, out: Path, seed: int, steps: int = 5000) -> Callable[[Callable[..., Any]], float]:
        """A pix2pix from label maps to photographs at 128x128, trained here. Returns the perceptual distance to the
        photographs of the 100 validation pairs, which stand for a test part: nothing is chosen on them."""
        import pix2pix

        (maps, photos), (tests, wanted) = (
            pix2pix.facades(data / "facades.zip", part, 128) for part in ("train", "val")
        )
        net = pix2pix.segmenter(maps, photos, out / "facades.safetensors")
        measure = pix2pix.Measures(net, tests, wanted)
        self.real, self.latents, self.how = (maps, photos), None, {"critic_input": "condition_and_output"}
        self.G, self.D = pix2pix.pair(seed)
        pairs = pix2pix.Pairs(pix2pix.Jittered(maps, photos))
        GAN(self.G, self.D, **pix2pix.OPTIONS, **self.how, seed=seed).fit(
            pairs, steps=steps, out=out / f"facades-base{seed}", resume=True, progress=False
        )
        self.G.eval(), self.D.eval()

        @torch.no_grad()
        def distance(generate: Callable[..., Any]) -> float:
            return measure(torch.cat([generate(one[None]) for one in tests]))["perceptual"]

        return distance

    @torch.no_grad()
    def samples(self, generate: Callable[..., Any], many: int, seed: int) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            batches = [self.latents(250) for _ in range(many // 250)]
        return torch.cat([generate(*z) if isinstance(z, tuple) else generate(z) for z in batches])

    def distance(self, generate: Callable[..., Any]) -> float:
        if self._perceptual is not None:
            return self._perceptual(generate)
        return frechet_distance(features(self.space, self.samples(generate, 10_000, 12345)), self._test)

    def row(self, steps: int, seed: int, old: bool) -> dict[str, Any]:
        """Trained by the defaults, or by those before: BCE whatever D is, twice the rates and more, no comparison."""
        torch.manual_seed(seed)
        with fbwrap.attach(self.G, self.D, "auto", example=self.latents(2), **self.how) as loop:
            before = {"loss": "bce", "lr": 5e-4, "critic_lr": 4e-4, "warmup": 0, "critic_steps": 1, "held_out": 0}
            options = before if old else {"loss": self.loss}
            fit = AFL(loop, **options, seed=seed).fit(self.real, self.latents, steps, progress=False)
            stored = loop.strength
            at = {f"α = {a:g}": self.distance(lambda *z: loop.rollout(*z, strength=a).output) for a in STRENGTHS}
            after = self.distance(loop)
        ratios = {f"held out {share:g}": ratio for share, ratio in fit.held_out.items()}
        return {"frechet": after, "strength": stored, **at, **ratios, "training": fit.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", default=["wgangp_mnist", "cvaegan_mnist", "dcgan_faces32",
                                                       "fashion_dcgan", "fashion_sngan"])  # fmt: skip
    parser.add_argument("--steps", type=int, nargs="+", default=[120, 600])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--before", action="store_true", help="the defaults before, too")
    parser.add_argument("--loss", help="one that the user says, in place of what D was trained with")
    parser.add_argument("--out", type=Path, default=Path("runs/defaults"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, order = Results(options.out), []
    for name in options.pairs:
        case = Case(name, options.data, options.weights, options.out)
        case.loss = options.loss or case.loss
        base = results.once(f"{name}, base", 0, lambda: {"frechet": case.distance(case.G)})
        order.append(f"{name}, base")
        for steps in options.steps:
            for old in (True, False) if options.before else (False,):
                row = f"{name}, {steps} steps{', defaults before' * old}" + f", {options.loss}" * bool(options.loss)
                order.append(row)
                for seed in options.seeds:
                    found = results.once(row, seed, lambda: case.row(steps, seed, old))
                    print(f"  {found['frechet'] / base['frechet']:.3f} of the base at strength {found['strength']:g}")
    print(results.table(["frechet", "strength", *(f"α = {a:g}" for a in STRENGTHS)], order))


if __name__ == "__main__":
    main()
