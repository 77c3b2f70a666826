"""AFL §4.1: points on a Swiss roll. G alone, G trained on, and G with one feedback module, at variance 1 and 5.

    python benchmarks/swiss_roll.py [--seeds 0 1 2] [--steps 8000] [--out docs/results/swiss_roll]

WGAN-GP; G and D have four fully connected layers; one dual module of three layers, from D's three hidden layers to
the input of G's last layer. G is narrow and D wide, so that G has something left to correct. Phase 1 trains G and D;
then, from the same point, with the same options and for as many steps, either G goes on (the control) or the module
learns and G stays. Further controls: the same module fed a constant, noise, or what D sees in another sample. Every
network is measured on 100 000 samples against as many fresh real ones: sliced Wasserstein distance (500 projections),
and on 10 000 the mean distance to the noise-free curve; both are not zero for real samples either (first row). A seed
that is done is not run again.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from fbwrap.recipes import AFL, GAN
from torch import Tensor, nn

import fbwrap

OPTIONS = {
    "loss": "wasserstein_gp", "gradient_penalty": 0.1, "critic_steps": 5, "r1": 0.0, "lr": 1e-4, "critic_lr": 1e-4,
    "betas": (0.5, 0.9), "batch": 256, "decay": "none", "critic_mode": "train", "ema": 0.995, "recalibrate": 0,
}  # fmt: skip


def roll(n: int, generator: torch.Generator | None = None, noise: float = 0.25) -> Tensor:
    """n points of the Swiss roll of the WGAN-GP authors, (n, 2)."""
    t = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator))
    points = torch.stack((t * t.cos(), t * t.sin()), 1)
    return (points + noise * torch.randn(n, 2, generator=generator)) / 7.5


def layers(width: int, outside: int) -> nn.Sequential:
    """Four fully connected layers."""
    hidden = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outside))


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 500) -> float:
    """Mean over random directions of the 1-D Wasserstein distance between two sets of as many points."""
    angle = torch.linspace(0, math.pi, projections + 1)[:-1]
    directions = torch.stack((angle.cos(), angle.sin()))
    return float(((a @ directions).sort(0).values - (b @ directions).sort(0).values).abs().mean())


def to_curve(points: Tensor) -> float:
    """Mean distance of points to the noise-free curve."""
    t = 1.5 * math.pi * (1 + 2 * torch.linspace(0, 1, 4001))
    curve = torch.stack((t * t.cos(), t * t.sin()), 1) / 7.5
    return float(torch.cat([torch.cdist(part, curve).min(1).values for part in points.split(2000)]).mean())


def measured(generate, seed: int, samples: int = 100_000) -> dict[str, float]:
    """Both distances at test variance 1 and 5 times that of training."""
    random = torch.Generator().manual_seed(1000 + seed)
    real = roll(samples, random)
    found = {}
    for variance in (1, 5):
        z = torch.randn(samples, 2, generator=random) * math.sqrt(variance)
        with torch.no_grad():
            points = torch.cat([generate(part) for part in z.split(4000)])
        found[f"swd x{variance}"] = sliced_wasserstein(points, real)
        found[f"curve x{variance}"] = to_curve(points[:10_000])
    return found


def attached(G: nn.Module, D: nn.Module, control: str = "") -> fbwrap.FeedbackLoop:
    """One dual module without normalisation; a control replaces what D says."""
    module = {"kind": "dual", "norm": "none", "convs": 3, "hidden": 128}
    loop = fbwrap.attach(G, D, [("5", ["1", "3", "5"])], example=torch.randn(4, 2), module=module)
    if control:
        own = loop.feedback[0].forward

        def forward(feature: Tensor, *signals: Tensor) -> Tensor:
            said = {
                "constant": lambda s: torch.ones_like(s),
                "noise": lambda s: torch.randn_like(s) * s.std() + s.mean(),
                "wrong": lambda s: s.roll(1, 0),
            }[control]
            return own(feature, *(said(signal) for signal in signals))

        loop.feedback[0].forward = forward
    return loop


def one_seed(seed: int, steps: int, widths: tuple[int, int], controls: list[str], show: bool) -> dict:
    """Every row of the table for one seed."""
    import copy

    torch.manual_seed(seed)
    G, D = layers(widths[0], 2), layers(widths[1], 1)
    latents = lambda n: torch.randn(n, 2)  # noqa: E731
    common = {**OPTIONS, "seed": seed}
    started = time.monotonic()
    GAN(G, D, **common).fit(roll, latents, steps, progress=show)
    found = {"real against real": measured(lambda z: roll(len(z)), seed), "base": measured(G, seed)}
    found["base"]["seconds"] = time.monotonic() - started

    def note(name: str, generate, begun: float) -> None:
        found[name] = {**measured(generate, seed), "seconds": time.monotonic() - begun}
        print(seed, name, {key: round(value, 4) for key, value in found[name].items()}, flush=True)

    begun = time.monotonic()
    more, judge = copy.deepcopy(G), copy.deepcopy(D)
    GAN(more, judge, **common).fit(roll, latents, steps, progress=show)
    note("G trained on", more, begun)
    for control in ("", *controls):
        begun = time.monotonic()
        torch.manual_seed(seed)
        loop = attached(G, D, control)
        AFL(loop, critic_ema=0.0, **common).fit(roll, latents, steps, progress=show)
        note(f"AFL{', fed ' + control if control else ''}", loop, begun)
        if not control:
            for T in (2, 3):
                loop.steps = T
                note(f"AFL, T = {T}", loop, begun)
        loop.detach()
    return found


def page(results: dict[str, dict[str, dict[str, float]]], steps: int, widths: list[int]) -> str:
    """The table: means over seeds, and each seed's."""
    names = next(iter(results.values())).keys()
    columns = ("swd x1", "curve x1", "swd x5", "curve x5")
    lines = ["| | " + " | ".join(columns) + " | seconds |", "|" + " --- |" * 6]
    for name in names:
        cells = []
        for column in columns:
            values = [result[name][column] for result in results.values()]
            each = ", ".join(f"{value:.4f}" for value in values)
            cells.append(f"**{sum(values) / len(values):.4f}** ({each})")
        seconds = [result[name].get("seconds", 0.0) for result in results.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {sum(seconds) / len(seconds):.0f} |")
    seeds = ", ".join(results)
    about = (
        f"{steps} + {steps} steps, widths {widths[0]} and {widths[1]}, seeds {seeds}, torch {torch.__version__}, one "
        "CPU thread."
    )
    return f"# Swiss roll (AFL §4.1)\n\n{__doc__}\n{about}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--widths", type=int, nargs=2, default=(32, 128), help="of G and of D")
    parser.add_argument("--controls", nargs="*", default=["constant", "noise", "wrong"])
    parser.add_argument("--out", type=Path, default=Path("runs/swiss_roll"))
    parser.add_argument("--progress", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    path = options.out.with_name(f"{options.out.name}_{options.steps}_{'_'.join(map(str, options.widths))}.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    for seed in options.seeds:
        if str(seed) not in results:
            results[str(seed)] = one_seed(
                seed, options.steps, tuple(options.widths), options.controls, options.progress
            )
            path.write_text(json.dumps(results, indent=1))
    options.out.with_suffix(".md").write_text(page(results, options.steps, options.widths))
    print(page(results, options.steps, options.widths))


if __name__ == "__main__":
    main()
