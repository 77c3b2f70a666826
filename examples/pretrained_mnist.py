"""A feedback head for a GAN that somebody else trained: github.com/Ryhan9834/Digit-Generation-WGAN-GP.

    python examples/pretrained_mnist.py --data DIR [--steps 1200] [--most 3] [--seeds 0 1 2] [--arms ...]

DIR holds mnist.npz and weights/wgangp_mnist_G.safetensors, weights/lenet_mnist.safetensors. G stays
frozen. Every arm has the same warmed-up D, the same optimizer steps and samples:

    pyramid, dual, basic, light   the head, with four kinds of feedback module
    noise, wrong, constant        the pyramid, fed noise, another image's D features, or ones
    trained_on                    no head: G itself trained on

FID is the Fréchet distance in the 84-d hidden layer (fc.f6) of a LeNet, 10 000 samples against the
60 000 training images. It is not the Inception FID. Finished arms are kept; the same command goes on.
"""

import argparse
import copy
import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fbwrap.recipes import AFL, GAN, frechet_distance, train_discriminator
from fbwrap.recipes.metrics import features
from networks import DigitCritic, LeNet, WganMnistG, load, naming_loss, realness
from torch import Tensor, nn

import fbwrap
from fbwrap.feedback.pyramids import Pyramid

LINK = fbwrap.Link("gen.2", ["stages.0", "stages.1", "stages.2"])
# per arm: the module, T in training, the head's learning rate (each the best of those tried: docs/results)
HEADS = {
    "pyramid": ({"kind": "pyramid"}, 1, 3e-4),
    "dual": ({"kind": "dual", "convs": 3}, 2, 1e-3),
    "basic": ({"kind": "basic", "convs": 3}, 2, 1e-3),
    "light": ({"kind": "light"}, 2, 1e-3),
}
TRAINED_ON = {"lr": 1e-3, "generator_mode": "eval"}
COMMON = {"loss": "bce", "batch": 32, "critic_lr": 4e-4, "r1": 1.0, "auxiliary": naming_loss, "warmup": 0,
          "critic_steps": 1, "held_out": 0}  # fmt: skip
WARMUP, SAMPLES = 600, 10_000
FOLDER = Path("runs/mnist")
ARMS = ("trained_on", "pyramid", "dual", "basic", "light", "noise", "wrong", "constant")
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
SHORT = (0.5, 0.75, 1.0)  # of all but the pyramid


class Fed(Pyramid):
    """The pyramid, its signals replaced: the control for its capacity."""

    def __init__(self, feature, *signals, what: str) -> None:
        super().__init__(feature, *signals)
        self.what = what

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f([not θ, φ])."""
        return super().forward(feature, *(self.replaced(signal) for signal in signals))

    def replaced(self, signal: Tensor) -> Tensor:
        """Noise of the signal's mean and deviation, the next image's signal, or ones."""
        if self.what == "noise":
            mean, deviation = signal.mean((0, 2, 3), keepdim=True), signal.std((0, 2, 3), keepdim=True)
            return torch.randn_like(signal) * deviation + mean
        return signal.roll(1, 0) if self.what == "wrong" else torch.ones_like(signal)


def latents(n: int) -> Tensor:
    return torch.randn(n, 64, 1, 1)


def fids(generate, space: nn.Module, target: Tensor) -> list[float]:
    """FID of each of the outputs that ``generate`` gives, 10 000 samples."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(12345)
        parts = [[space(y) for y in generate(z)] for z in latents(SAMPLES).split(250)]
    return [frechet_distance(torch.cat(found), target) for found in zip(*parts, strict=True)]


def warmed_critic(G: nn.Module, real, seed: int, folder: Path) -> nn.Module:
    """A fresh D that has learned this G's faults; the same for all arms of a seed."""
    torch.manual_seed(seed)
    D = DigitCritic()
    train_discriminator(
        G, D, real, latents, WARMUP, response=realness, decay="none", seed=seed, out=folder, resume=True, **COMMON
    )
    return D


def run(arm: str, G: nn.Module, D: nn.Module, real, steps: int, seed: int, score, options) -> dict:
    """Train one arm and measure it."""
    torch.manual_seed(1000 + seed)
    common = {**COMMON, "seed": 1000 + seed}
    if arm == "trained_on":
        net = copy.deepcopy(G)
        rates = {**TRAINED_ON, **({"lr": options.rate} if options.rate else {})}
        fit = GAN(net, copy.deepcopy(D), response=realness, **rates, **common).fit(real, latents, steps)
        net.eval()
        found = {"/": score(lambda z: [net(z)])[0]}
        parameters = sum(p.numel() for p in net.parameters())
    else:
        module, trained_steps, rate = HEADS.get(arm, (partial(Fed, what=arm), *HEADS["pyramid"][1:]))
        with fbwrap.attach(
            G, D, [LINK], module=module, example=latents(2), response=realness, steps=trained_steps
        ) as loop:
            fit = AFL(loop, lr=options.rate or rate, **common).fit(real, latents, steps)
            found = {}
            for alpha in STRENGTHS if arm == "pyramid" else SHORT:
                each = score(lambda z: loop.rollout(z, steps=options.most, strength=alpha).outputs[1:])  # noqa: B023
                found |= {f"{alpha}/{t}": value for t, value in enumerate(each, 1)}
            parameters = sum(p.numel() for p in loop.parameters())
            if arm == "pyramid":
                loop.save_pretrained(FOLDER / f"head_{steps}_{seed}", trained_on={"data": "MNIST", "steps": steps})
                pictures(loop, FOLDER / f"samples_{steps}_{seed}.png")
    return {
        "arm": arm,
        "seed": seed,
        "fid": found,
        "steps": fit.steps,
        "samples": fit.samples,
        "seconds": round(fit.seconds, 1),
        "parameters": parameters,
    }


def pictures(loop: fbwrap.FeedbackLoop, path: Path) -> None:
    """Rows y_0 … y_T of the same latents."""
    from fbwrap.recipes.training.pictures import save_grid

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        save_grid(list(loop.rollout(latents(20)).outputs), path)


def report(rows: list[dict], base: float, folder: Path) -> str:
    """The table as Markdown, and the strength sweep as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    lines = [
        "| arm | steps | FID at its best setting: mean (each seed) | best α, T | FID at α = 1 | against base "
        "| samples | training, s | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| base G | | {base:.1f} | | | | | | |",
    ]
    every = sorted({row["steps"] for row in rows})
    figure, axes = plt.subplots(
        1, len(every), figsize=(5.5 * len(every), 4), layout="constrained", sharey=True, squeeze=False
    )
    for ax, steps in zip(axes[0], every, strict=True):
        for arm in ARMS:
            mine = sorted((r for r in rows if r["arm"] == arm and r["steps"] == steps), key=lambda r: r["seed"])
            if not mine:
                continue
            means = {key: np.mean([row["fid"][key] for row in mine]) for key in mine[0]["fid"]}
            key = min(means, key=means.get)
            each = ", ".join(f"{row['fid'][key]:.1f}" for row in mine)
            full = means.get(f"1.0/{key[-1]}")
            lines.append(
                f"| {arm} | {steps} | **{means[key]:.1f}** ({each}) | {key.replace('/', ', ').strip(', ')} | "
                f"{'' if full is None else f'{full:.1f}'} | {means[key] / base - 1:+.0%} | {mine[0]['samples']} | "
                f"{np.mean([row['seconds'] for row in mine]):.0f} | {mine[0]['parameters']:,} |"
            )
            if arm == "trained_on":
                ax.axhline(means[key], linestyle="--", color="gray", label="G trained on")
            else:
                points = [(0.0, base)] + [(float(k[:-2]), v) for k, v in means.items() if k[-1] == key[-1]]
                ax.plot(*zip(*points, strict=True), marker="o", label=f"{arm}, T = {key[-1]}")
        ax.set(xlabel="strength α", ylabel="FID (LeNet f6)", ylim=(0, 1.05 * base), title=f"{steps} steps")
        ax.legend(fontsize=7)
    figure.savefig(folder / "strength.png", dpi=110)
    plt.close(figure)
    for arm in HEADS:
        for steps in sorted({row["steps"] for row in rows if row["arm"] == arm}):
            mine = [row for row in rows if row["arm"] == arm and row["steps"] == steps]
            alphas = sorted({float(key[:-2]) for key in mine[0]["fid"]})
            lines += ["", f"{arm}, {steps} steps, trained with T = {HEADS[arm][1]}, mean over seeds:", ""]
            lines += ["| T | " + " | ".join(f"α = {a}" for a in (0.0, *alphas)) + " |"]
            lines.append("| --- |" + " --- |" * (1 + len(alphas)))
            for t in sorted({int(key[-1]) for key in mine[0]["fid"]}):
                cells = [f"{np.mean([row['fid'][f'{a}/{t}'] for row in mine]):.1f}" for a in alphas]
                lines.append(f"| {t} | " + " | ".join([f"{base:.1f}", *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--most", type=int, default=1, help="measure T = 1 … MOST")
    parser.add_argument("--rate", type=float, help="another learning rate, for tuning (choose another --out)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    options = parser.parse_args()
    global FOLDER
    FOLDER = options.out
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    G = load(WganMnistG(), options.data / "weights/wgangp_mnist_G.safetensors")
    space = load(LeNet(), options.data / "weights/lenet_mnist.safetensors")
    z = np.load(options.data / "mnist.npz")
    images = torch.from_numpy(z["x_train"]).float()[:, None] / 127.5 - 1
    real = (images, torch.from_numpy(z["y_train"]).long())
    target = features(space, images)
    score = partial(fids, space=space, target=target)
    base = score(lambda z: [G(z)])[0]
    kept = FOLDER / "results.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    for seed in options.seeds:
        D = None
        for arm in options.arms:
            if any((row["arm"], row["seed"], row["steps"]) == (arm, seed, options.steps) for row in rows):
                continue
            D = D or warmed_critic(G, real, seed, FOLDER / f"critic_{seed}")
            begin = time.monotonic()
            rows.append(run(arm, G, D, real, options.steps, seed, score, options))
            best = min(rows[-1]["fid"].values())
            took = math.ceil(time.monotonic() - begin)
            print(f"seed {seed} {arm} {options.steps}: {best:.1f} (base {base:.1f}), {took} s", flush=True)
            kept.write_text(json.dumps(rows, indent=1))
    table = report(rows, base, FOLDER)
    (FOLDER / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
