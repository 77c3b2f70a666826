"""``fbwrap quickstart``: the whole job on scikit-learn's digits, in minutes, with no download.

Examples:
    >>> report = quickstart("quickstart", seed=0)          # doctest: +SKIP
    >>> print(report.table)                                # doctest: +SKIP

Trains a small GAN (AFL phase 1), attaches a head, trains it with G frozen (phase 2), compares it with
the base and with G trained on for as long, saves the head, loads it into a fresh G and D, and checks
that the outputs are equal. Interrupted, it goes on where it was.
"""

import copy
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fbwrap
from fbwrap import plots
from fbwrap.errors import FbwrapError
from fbwrap.files.atomic import atomic_write
from fbwrap.recipes import AFL, GAN, frechet_distance
from fbwrap.recipes.metrics import features
from fbwrap.recipes.studies import Study

from .digits import Classifier, Discriminator, Generator, data, latents, train_classifier

logger = logging.getLogger("fbwrap")

LINKS = [("up1", "conv2"), ("up2", "conv1")]
STRENGTHS, STEPS, MEASURED = (0.25, 0.5, 1.0), (1, 2, 3), 5000
OPTIONS: dict[str, object] = {
    "loss": "bce",
    "critic_lr": 4e-4,
    "r1": 1.0,
    "batch": 64,
    "decay": "none",
    "r1_every": 1,
    "ema": 0.999,
    "save_every": 250,
}


@dataclass(frozen=True)
class Report:
    """What the quickstart found: the table as text and as data, and where the files are."""

    table: str
    rows: list[dict[str, Any]]
    folder: Path


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def quickstart(
    folder: str | Path, *, seed: int = 0, steps: int = 1000, fresh: bool = False, progress: bool = True
) -> Report:
    """Run it all; files go to ``folder``.

    Args:
        steps: optimizer steps of each of the three trainings.
        fresh: start anew instead of resuming what is in ``folder``.
    """
    out = Path(folder)
    if fresh:
        for part in ("gan", "trained_on", "head_run", "head"):
            shutil.rmtree(out / part, ignore_errors=True)
        (out / "classifier.safetensors").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    real, labels = data()
    _say(progress, "1/5  a classifier of the digits: its hidden layer is the space of the distance")
    space = _classifier(real, labels, out / "classifier.safetensors").body
    torch.manual_seed(seed)
    G, D = Generator(), Discriminator()
    common: dict[str, Any] = {**OPTIONS, "seed": seed}
    run: dict[str, Any] = {"resume": True, "progress": progress}
    _say(progress, "2/5  a small GAN on 1797 digits (AFL phase 1)")
    GAN(G, D, lr=2e-4, critic_mode="train", **common).fit(real, latents, steps, out=out / "gan", **run)
    G.eval()
    D.eval()
    _say(progress, "3/5  the control: G trained on for as long")
    G2 = copy.deepcopy(G)
    on = GAN(G2, copy.deepcopy(D), lr=2e-4, **common)
    longer = on.fit(real, latents, steps, out=out / "trained_on", **run)
    G2.eval()
    _say(progress, "4/5  the feedback head, G frozen (AFL phase 2)")
    torch.manual_seed(seed)
    loop = fbwrap.attach(G, D, LINKS, example=latents(2))
    loop.latents = "normal"
    trained = AFL(loop, lr=5e-4, warmup=0, critic_steps=1, held_out=0, **common).fit(
        real, latents, steps, out=out / "head_run", **run
    )
    _say(progress, "5/5  measuring, saving, loading again")
    rows = _measure(G, G2, loop, space, real, seed)
    loop.strength, loop.steps = 1.0, 1
    about = {**loop.facts.trained_on, "data": "scikit-learn digits"}
    loop.save_pretrained(out / "head", discriminator="all", trained_on=about)
    _check_round_trip(loop, G, D, out, seed)
    _pictures(loop, rows, out, seed)
    table = _table(rows, longer.seconds, trained.seconds)
    (out / "report.json").write_text(json.dumps(rows, indent=2) + "\n")
    return Report(table, rows, out)


def _classifier(real: Tensor, labels: Tensor, path: Path) -> Classifier:
    """Trained once; afterwards read."""
    if not path.is_file():
        with atomic_write(path) as part:
            save_file(train_classifier(real, labels).state_dict(), part)
    net = Classifier()
    net.load_state_dict(load_file(path))
    return net.eval()


def _measure(
    G: nn.Module, G2: nn.Module, loop: fbwrap.FeedbackLoop, space: nn.Module, real: Tensor, seed: int
) -> list[dict[str, object]]:
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        z = latents(MEASURED)
    target = features(space, real)

    def distance(generate: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            return frechet_distance(features(lambda part: space(generate(part)), z), target)

    rows: list[dict[str, Any]] = [
        {"model": "base", "distance": distance(G)},
        {"model": "G trained on", "distance": distance(G2)},
    ]
    for steps in STEPS:
        for strength in STRENGTHS:
            with loop.settings(steps=steps, strength=strength):
                rows.append({"model": "head", "steps": steps, "strength": strength, "distance": distance(loop)})
    return rows


def _check_round_trip(loop: fbwrap.FeedbackLoop, G: nn.Module, D: nn.Module, out: Path, seed: int) -> None:
    """The saved head in a fresh G and D, read from disk, gives the same pictures bit for bit."""
    for name, net in (("generator", G), ("discriminator", D)):
        save_file(net.state_dict(), out / f"{name}.safetensors")
    G3, D3 = Generator().eval(), Discriminator().eval()
    G3.load_state_dict(load_file(out / "generator.safetensors"))
    D3.load_state_dict(load_file(out / "discriminator.safetensors"))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        z = latents(64)
        with fbwrap.from_pretrained(out / "head", G3, D3) as again:
            if not torch.equal(again(z), loop(z)):
                raise FbwrapError("The loaded head gives other pictures than the saved one. Please report this.")
        if not torch.equal(G3(z), G(z)):
            raise FbwrapError("Detaching left a trace in G. Please report this.")


def _pictures(loop: fbwrap.FeedbackLoop, rows: list[dict[str, Any]], out: Path, seed: int) -> None:
    """``samples.png``: samples at t = 0, 1, 2 with D's response; ``difference.png``: what changed; ``report.png``: the
    distance over the strength, beside G trained on."""
    with torch.random.fork_rng():
        torch.manual_seed(seed + 2)
        z = latents(16)
    with torch.no_grad():
        rollout = loop.rollout(z, steps=2, strength=1.0)
    noted: dict[str, Any] = {"strength": 1.0, "steps": 2, "seed": seed + 2}
    plots.save(plots.steps(rollout), out / "samples.png", **noted)
    plots.save(plots.difference(rollout.outputs[0], rollout.outputs[2]), out / "difference.png", **noted)
    base, on = rows[0]["distance"], rows[1]["distance"]
    sweep = [
        {"strength": strength, "model": f"{steps} step(s)", "distance": distance}
        for steps in STEPS
        for strength, distance in [
            (0.0, base),
            *((r["strength"], r["distance"]) for r in rows if r.get("steps") == steps),
        ]
    ]
    sweep += [{"strength": at, "model": "G trained on", "distance": on} for at in (0.0, max(STRENGTHS))]
    plots.save(Study("report", "strength", tuple(sweep)).plot(), out / "report.png", seed=seed)


def _table(rows: list[dict[str, Any]], longer: float, trained: float) -> str:
    base = rows[0]["distance"]
    lines = ["model           steps  strength  distance  against base"]
    for row in rows:
        steps, strength = row.get("steps", ""), row.get("strength", "")
        change = row["distance"] / base - 1
        lines.append(f"{row['model']:<14}  {steps:>5}  {strength:>8}  {row['distance']:8.2f}  {change:+11.0%}")
    lines += [
        f"Fréchet distance in the 32-d hidden layer of a digit classifier, {MEASURED} samples against all 1797",
        f"digits (not comparable with FID). Training: head {trained:.0f} s, G trained on {longer:.0f} s, same steps.",
    ]
    return "\n".join(lines)


def _say(progress: bool, text: str) -> None:
    if progress:
        logger.info(text)
