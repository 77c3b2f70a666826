r"""AFL §4.2, Fig. 5: CIFAR-10, three bases trained here to their end, then a feedback head for each.

    python benchmarks/cifar10.py --data DIR [--device cuda] [--bases sngan dcgan wgangp] [--seeds 0 1 2]

G is DCGAN's at 32x32 (batch norm, 128 latents), D its mirror: with spectral norm and a hinge loss ("sngan"), with batch
norm and BCE ("dcgan"), without norm and with WGAN-GP's penalty ("wgangp"). Phase 1 is a plain training loop
(:mod:`bases`), with rates that fall to zero. Phase 2, for as many steps in every row and with the same D, loss and
averaging: feedback modules learn with G frozen ("AFL"), or G itself ("G trained on"), or the same modules fed noise, a
constant or another image's features, in training and in the test. ``--links one``: a single module at 8x8, as in the
paper, dual for SN-GAN and basic for the others; ``all``: dual modules at 4x4, 8x8 and 16x16.

Measured with 10 000 samples against the 10 000 test images, which nothing was trained on (``--against train``: against
as many training images, to choose settings by): Fréchet distance, precision and recall in the last hidden layer (128
numbers) of a classifier that this script trains, and its Inception score ("score"). It is not Inception: the numbers
compare with nothing but each other. ``DIR`` holds cifar10_jpeg.npz. What is done is not done again.
"""

import argparse
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bases import pretrain
from fbwrap.recipes import AFL, GAN
from fbwrap.recipes.metrics import features, frechet_distance, inception_score, precision_and_recall
from fbwrap.recipes.networks import dcgan
from judges import trained_once
from PIL import Image
from results import Results
from rows import CONTROLS, samples, trained_row
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fbwrap

Z, SAMPLES = 128, 10_000
BASES: dict[str, dict[str, Any]] = {
    "sngan": {"norm": "spectral", "loss": "hinge", "betas": (0.0, 0.9), "critic_steps": 1, "steps": 20_000},
    "dcgan": {"norm": "batch", "loss": "bce", "betas": (0.5, 0.999), "critic_steps": 1, "steps": 20_000},
    "wgangp": {"norm": "none", "loss": "wasserstein_gp", "betas": (0.0, 0.9), "critic_steps": 3, "steps": 8_000},
}
PHASE_2: dict[str, Any] = {"batch": 64, "r1": 0.0, "critic_lr": 2e-4, "critic_mode": "train", "ema": 0.999,
                           "save_every": 2000, "warmup": 0, "held_out": 0}  # fmt: skip
LINKS = {
    "one": [("main.1", "main.1")],
    "all": [(f"main.{i}", f"main.{2 - i}") for i in range(3)],
}


class Classifier(nn.Module):
    """The feature space: (N, 3, 32, 32) to 128 features, and from there to ten classes."""

    def __init__(self) -> None:
        super().__init__()

        def stage(a: int, b: int) -> nn.Sequential:
            convs = ((a, b), (b, b))
            layers = [
                nn.Sequential(nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in convs
            ]
            return nn.Sequential(*layers, nn.MaxPool2d(2))

        self.features = nn.Sequential(
            *(stage(3, 64), stage(64, 128), stage(128, 256), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            *(nn.Linear(256, 128), nn.ReLU()),
        )
        self.last = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def images(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) in [-1, 1], and labels."""
    with np.load(path) as z:
        held, begin, y = z[f"jpeg_{part}"].tobytes(), z[f"offset_{part}"], z[f"y_{part}"]
    each = [np.asarray(Image.open(io.BytesIO(held[a:b]))) for a, b in itertools.pairwise(begin)]
    return torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(y).long()


def classifier(x: Tensor, y: Tensor, path: Path, steps: int = 8000) -> Classifier:
    def loss(net: Classifier) -> Tensor:
        """Of images that are mirrored and moved by up to four pixels."""
        rows = torch.randint(len(x), (128,), device=x.device)
        top, left = (int(n) for n in torch.randint(9, (2,)))
        batch = F.pad(x[rows], (4, 4, 4, 4))[:, :, top : top + 32, left : left + 32]
        return F.cross_entropy(net(batch.flip(3) if torch.rand(()) < 0.5 else batch), y[rows], label_smoothing=0.1)

    return trained_once(lambda: Classifier().to(x.device), loss, path, steps)


class Measures:
    """Of a generator, in the classifier's eyes."""

    def __init__(self, net: Classifier, real: Tensor, latents: Callable[[int], Tensor]):
        self._net, self._real, self._latents = net, features(net.features, real), latents

    @torch.no_grad()
    def __call__(self, generate: Callable[[Tensor], Tensor]) -> dict[str, float]:
        found = features(self._net.features, samples(generate, self._latents, SAMPLES))
        precision, recall = precision_and_recall(found, self._real)
        return {
            "frechet": frechet_distance(found, self._real),
            "score": inception_score(self._net.last(found)),
            "precision": precision,
            "recall": recall,
        }


def base(kind: str, real: Tensor, latents: Callable[[int], Tensor], seed: int, options: Any) -> tuple[nn.Module, ...]:
    """The pretrained pair; from its file if that is there."""
    torch.manual_seed(seed)
    held = {key: value for key, value in BASES[kind].items() if key != "norm"}
    G = dcgan.Generator(Z, options.width, 32).to(real.device)
    D = dcgan.Discriminator(options.width, 32, BASES[kind]["norm"]).to(real.device)
    both, path = nn.ModuleDict({"G": G, "D": D}), options.out / f"{kind}_{seed}.safetensors"
    if path.exists():
        both.load_state_dict(load_file(path))
        return G.eval(), D.eval()
    held["steps"] = options.base_steps or held["steps"]
    pretrain(G, D, real, latents=latents, seed=seed, mixed_precision=options.mixed_precision, **held)
    save_file({key: value.contiguous() for key, value in both.state_dict().items()}, path)
    return G, D


def phase_2(row: str, kind: str, G: nn.Module, D: nn.Module, real: Tensor, latents: Callable[[int], Tensor],
            seed: int, measured: Measures, options: Any) -> dict[str, float]:  # fmt: skip
    """Train one row from the pair, and measure it."""
    about = {key: BASES[kind][key] for key in ("loss", "betas", "critic_steps")}
    common = {**PHASE_2, **about, "mixed_precision": options.mixed_precision, "seed": 1000 + seed, "trackers": "none"}
    paper = "dual" if kind == "sngan" else "basic"
    module = {"kind": paper if options.links == "one" else "dual", "convs": 2}
    return trained_row(
        *(row, G, D, real, latents, options.out / kind, options.steps, 1000 + seed, measured),
        whole=lambda net, critic: GAN(net, critic, lr=options.trained_on_lr, **common),
        attach=lambda: fbwrap.attach(G, D, LINKS[options.links], module=module, example=latents(2)),
        head=lambda loop: AFL(loop, lr=options.lr, critic_ema=options.critic_ema, **common),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--base-steps", type=int, help="20 000; of WGAN-GP 8000, with three steps of D each")
    parser.add_argument("--width", type=int, default=32, help="channels of G at 16x16")
    parser.add_argument("--links", choices=LINKS, default="all")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--lr", type=float, default=1e-4, help="of the head")
    parser.add_argument("--trained-on-lr", type=float, default=2e-4, help="of G trained on")
    parser.add_argument("--critic-ema", type=float, default=0.9999, help="of D's average that gives the feedback")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=["AFL", "G trained on", *CONTROLS])
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--against", choices=("test", "train"), default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, device = Results(options.out), torch.device(options.device)
    (x, y), (test, test_y) = (
        tuple(part.to(device) for part in images(options.data / "cifar10_jpeg.npz", name)) for name in ("train", "test")
    )
    net = classifier(x, y, options.out / "classifier.safetensors")
    latents = lambda n: torch.randn(n, Z, 1, 1, device=device)  # noqa: E731
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: len(test)].to(device)
    measured = Measures(net, test if options.against == "test" else x[some], latents)
    with torch.no_grad():
        right = lambda: {"accuracy": float((features(net, test).argmax(1) == test_y).double().mean())}  # noqa: E731
        results.once(
            "training images", 0, lambda: {**measured(lambda z: x[torch.randint(len(x), z.shape[:1])]), **right()}
        )
    real = torch.cat((x, x.flip(3)))
    for kind in options.bases:
        for seed in options.seeds:
            G, D = base(kind, real, latents, seed, options)
            results.once(f"{kind}: base", seed, lambda: measured(G))
            for row in options.rows:
                results.once(
                    f"{kind}: {row}", seed, lambda: phase_2(row, kind, G, D, real, latents, seed, measured, options)
                )
    order = [f"{kind}: {row}" for kind in BASES for row in ("base", "G trained on", "AFL", *CONTROLS)]
    print(results.table(["frechet", "α = 0.25", "α = 0.5", "α = 0.75", "score", "precision", "recall"],
                        ["training images", *order]))  # fmt: skip


if __name__ == "__main__":
    main()
