"""What a step of training a head costs, against a plain step of training the same G and D.

    python benchmarks/training_step.py [--rounds 9] [--out docs/results/training_step.md]

The plain step is written by hand, as in PyTorch's DCGAN example: one batch of samples for both; D learns on real data
and on the samples, then G through D. A head's step is `AFL(loop).fit`'s, with all that it does (the averages of head
and D, checks for losses that are not finite, R1 at intervals), one step of D for each of the head, the same loss,
batch and optimizer. `without extras`: no averages and no R1, which the plain step has not either.

Both are timed in turn within each round; the table holds medians over the rounds of the ratio of times. Memory is the
peak of resident memory above what was there before the first step, each in a process of its own.
"""

import argparse
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from fbwrap.adapters.fresh_critic import FreshCritic
from fbwrap.recipes import AFL
from from_examples import example
from networks import dcgan_d, dcgan_g
from overhead import resident
from torch import Tensor, nn

import fbwrap

Networks = tuple[nn.Module, nn.Module, tuple[int, ...]]


def mnist() -> Networks:
    return example("networks").WganMnistG(), FreshCritic((1, 28, 28)), (64, 1, 1)


def dcgan() -> Networks:
    return dcgan_g(), dcgan_d(), (100, 1, 1)


CASES: dict[str, tuple[Callable[[], Networks], int]] = {
    "WGAN-GP for MNIST with the critic that `fit` makes, batch 32": (mnist, 32),
    "DCGAN-64, batch 16": (dcgan, 16),
}
EXTRAS = {"": {}, ", without extras": {"ema": 0.0, "critic_ema": 0.0, "r1": 0.0}}
HEADS: dict[str, tuple[Any, dict[str, Any]]] = {
    '`module="auto"`': ("auto", EXTRAS[""]),
    '`module="auto"`, without extras': ("auto", EXTRAS[", without extras"]),
    "`pyramid` in its place": ("pyramid", EXTRAS[""]),
    '`dual` at each layer that "auto" finds': ("dual", EXTRAS[""]),
}


def attached(G: nn.Module, D: nn.Module, module: Any, example: Tensor) -> fbwrap.FeedbackLoop:
    if module in ("dual", "auto"):
        return fbwrap.attach(G, D, "auto", module=module, example=example)
    with fbwrap.attach(G, D, "auto", module="auto", example=example) as auto:
        link = auto.connections[0]
        place = fbwrap.Link(str(link.target), [source.name for source in link.sources])
    return fbwrap.attach(G, D, [place], module=module, example=example)


class Plain:
    """A GAN's step by hand."""

    def __init__(self, G: nn.Module, D: nn.Module, real: Tensor, z: tuple[int, ...]) -> None:
        self.G, self.D, self.real, self.z = G.train(), D.train(), real, z
        self.optimizers = [torch.optim.Adam(net.parameters(), 1e-4, (0.5, 0.999)) for net in (G, D)]

    def answer(self, x: Tensor) -> Tensor:
        found = self.D(x)
        return found[0] if isinstance(found, tuple) else found

    def run(self, steps: int, batch: int) -> None:
        of_g, of_d = self.optimizers
        for _ in range(steps):
            real = self.real[torch.randint(len(self.real), (batch,))]
            fake = self.G(torch.randn(batch, *self.z))
            of_d.zero_grad(set_to_none=True)
            F.softplus(-self.answer(real)).mean().backward()
            F.softplus(self.answer(fake.detach())).mean().backward()
            of_d.step()
            of_g.zero_grad(set_to_none=True)
            F.softplus(-self.answer(fake)).mean().backward()
            of_g.step()


def runners(name: str, which: str) -> Callable[[int], None]:
    """Runs so many steps of one kind."""
    make, batch = CASES[name]
    torch.manual_seed(0)
    G, D, z = make()
    real = torch.rand(4 * batch, *G.eval()(torch.randn(1, *z)).shape[1:]) * 2 - 1
    if which == "plain":
        plain = Plain(G, D, real, z)
        return lambda steps: plain.run(steps, batch)
    module, options = HEADS[which]
    loop = attached(G, D.eval(), module, torch.randn(1, *z))
    told = {"loss": "bce", "critic_steps": 1, "warmup": 0, "held_out": 0, "recalibrate": 0, "trackers": "none"}
    afl = AFL(loop, **told, batch=batch, **options)
    return lambda steps: afl.fit(real, lambda n: torch.randn(n, *z), steps, progress=False)


def timed(run: Callable[[int], object], steps: int) -> float:
    begin = time.perf_counter()
    run(steps)
    return (time.perf_counter() - begin) / steps


def memory(name: str, which: str) -> int:
    command = [sys.executable, __file__, "--memory", name, which]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(found.stdout.split()[-1])


class Clock:
    """Time that was spent in functions, each without those that it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = [0.0]

    def around(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed_function(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - begin
                self.spent[label] = self.spent.get(label, 0.0) + whole - self._inner.pop()
                self._inner[-1] += whole

        return timed_function


PARTS = {
    "G, without a graph up to the first corrected layer": ("fbwrap.feedback.unroll", "Unroller.run"),
    "D up to its last tap, without a graph": ("fbwrap.feedback.critic_runner", "CriticRunner.signals"),
    "feedback modules": ("fbwrap.feedback.corrections", "Corrections.correct"),
    "D on samples and on real data": ("fbwrap.recipes.training.steps", "Critic.answer"),
    "gradients": ("torch", "Tensor.backward"),
    "optimizers": ("torch.optim", "Adam.step"),
    "averages": ("fbwrap.recipes.training.ema", "EMA.update"),
    "data and latents": ("fbwrap.recipes.data.batches", "Stream.next"),
    "checks for losses that are not finite": ("fbwrap.recipes.training.steps", "Passes.check"),
    "the rest": ("fbwrap.recipes.training.trainer", "Trainer._step"),
}


def profile(name: str, which: str, steps: int) -> list[str]:
    """Where the time of a head's step goes."""
    run, clock = runners(name, which), Clock()
    run(3)
    with ExitStack() as stack:
        for label, (module, path) in PARTS.items():
            holder, attribute = path.split(".")
            owner = getattr(importlib.import_module(module), holder)
            stack.callback(setattr, owner, attribute, original := getattr(owner, attribute))
            setattr(owner, attribute, clock.around(label, original))
        run(steps)
    total = sum(clock.spent.values())
    rows = sorted(clock.spent.items(), key=lambda item: -item[1])
    return [f"| {label} | {1000 * spent / steps:.2f} | {spent / total:.0%} |" for label, spent in rows]


def import_all() -> None:
    """A few steps of a tiny pair: what is imported on the way is no memory of a step."""
    G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    with fbwrap.attach(G, D, [("0", "0")], example=torch.zeros(1, 2)) as loop:
        AFL(loop, loss="bce", warmup=0, held_out=0, trackers="none").fit(
            torch.zeros(64, 2), lambda n: torch.randn(n, 2), 2, progress=False
        )


def peak(name: str, which: str) -> int:
    import_all()
    run = runners(name, which)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = resident("VmRSS")
    run(2)
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=24, help="in a round: a head's training is set up anew in each")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(peak(*options.memory))
        return
    lines = ["| pair | head | time / a plain step | memory / a plain step |", "| --- | --- | --- | --- |"]
    for name in CASES:
        runs = {which: runners(name, which) for which in ("plain", *HEADS)}
        found: dict[str, list[float]] = {which: [] for which in HEADS}
        for number in range(options.rounds + 1):
            plain = timed(runs["plain"], options.steps)
            for which in HEADS:
                seconds = timed(runs[which], options.steps)
                found[which] += [seconds / plain] * (number > 0)  # the first round warms up
        base = memory(name, "plain")
        for which in HEADS:
            ratio = statistics.median(found[which])
            lines.append(f"| {name} | {which} | {ratio:.2f} | {memory(name, which) / base:.2f} |")
            print(lines[-1], flush=True)
    name = next(iter(CASES))
    for which in ('`module="auto"`', "`pyramid` in its place"):
        lines += [f"\n{name}, {which}:\n", "| part of a step | ms | share |", "| --- | --- | --- |"]
        lines += profile(name, which, 60)
    lines.append(
        f"\nMachine: {platform.machine()}, {os.cpu_count()} cores shared with other work, one thread, torch "
        f"{torch.__version__}, medians of {options.rounds} rounds of {options.steps} steps."
    )
    if options.out:
        title = "# A step of training\n\n"
        options.out.write_text(title + (__doc__ or "").strip() + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
