"""A head beside the samplers that use D at test time, each at its cost.

    python benchmarks/samplers.py --data DATA --weights WEIGHTS [--pair wgangp_mnist] [--seeds 0 1 2] [--out FOLDER]

Four D's are asked: the published one; two new ones that learned for as many steps as a head does, on the samples that
are to be judged and real ones, without labels (``fit``'s ways: a D that names pseudo-classes, and one that tells real
from generated alone); and the D that a head of ``fit`` was trained with. Each is calibrated (Platt) on real images of
the validation part. Every method's settings, from its paper's and a small grid around them, are chosen by ``fit``'s
distance to the validation part, 2000 samples; the table's numbers are of the settings so chosen, measured once: the
Fréchet distance of 5000 samples to the data set's test images, in the features of a classifier that learned from
labels. Costs are in calls of G for one sample, by FLOPs. A folder (``--out``) is of one pair.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from defaults import Case
from fbwrap.adapters.fresh_critic import FreshCritic
from fbwrap.recipes import train_discriminator
from fbwrap.recipes.fitting import head_run
from fbwrap.recipes.fitting.head_run import HeadRun
from fbwrap.recipes.fitting.parts import split
from fbwrap.recipes.fitting.problem import Problem
from fbwrap.recipes.fitting.ways import ways_for
from fbwrap.recipes.metrics import features, frechet_distance
from results import Results

import fbwrap
from fbwrap.samplers import DDLS, DOT, DRS, MHGAN, Calibration, Collaborative, DGFlow, Plain, Sampler, TopK

ROUND, MEASURED, CHOSEN_ON = 200, 5000, 2000
LAYERS = {
    "wgangp_mnist": ("gen.1", "gen.2"),
    "fashion_sngan": ("main.1", "main.2"),
    "fashion_dcgan": ("main.1", "main.2"),
}
LATENTS = {"cvaegan_mnist": ["normal", "labels:0:9"], "dcgan_faces32": "uniform:-1:1"}
HEADS = ("wgangp_mnist",)  # the pairs on which `fit` finds a head
WAYS = {"new D": 0, "new D, no classes": 2}  # of `fit`: D names clusters; D tells real from generated alone
ON_HEADS = ("DRS", "MH-GAN", "best of n")
Make = Callable[[], Sampler]


def grids(
    loop: fbwrap.FeedbackLoop, calibration: Calibration, layers: tuple[str, ...]
) -> Iterator[tuple[str, str, Make]]:
    """Method, settings, sampler."""
    how = {"calibration": calibration, "batch": 250}
    for keep in (0.1, 0.25, 0.5):
        yield "DRS", f"keep {keep}", lambda keep=keep: DRS(loop, keep=keep, **how)
    for length in (10, 20):
        yield "MH-GAN", f"length {length}", lambda length=length: MHGAN(loop, length=length, **how)
    for of in (2, 4):
        yield "best of n", f"n = {of}", lambda of=of: TopK(loop, of=of, **how)
    for divergence, size in (("KL", 0.03), ("KL", 0.01), ("JS", 0.1)):
        yield (
            "DGflow",
            f"{divergence}, η = {size}",
            lambda d=divergence, s=size: DGFlow(loop, divergence=d, step_size=s, steps=25, **how),
        )
    for steps, size in ((20, 0.05), (20, 0.2), (100, 0.01)):
        yield (
            "DOT",
            f"{steps} steps of {size}",
            lambda steps=steps, size=size: DOT(loop, steps=steps, step_size=size, **how),
        )
    yield "DDLS", "50 steps of 0.01", lambda: DDLS(loop, step_size=0.01, steps=50, **how)
    for layer, sizes in zip(layers, ((0.01,), (0.03, 0.1, 0.3)), strict=False):
        for size in sizes:
            yield (
                "Collaborative",
                f"{layer}, 10 steps of {size}",
                lambda layer=layer, size=size: Collaborative(loop, layer=layer, step_size=size, steps=10, **how),
            )
    if layers:
        long = lambda: Collaborative(loop, layer=layers[-1], step_size=0.1, steps=50, **how)  # noqa: E731
        yield "Collaborative", f"{layers[-1]}, 50 steps of 0.1", long


class Frozen(torch.nn.Module):
    """A loop as a generator."""

    def __init__(self, loop: fbwrap.FeedbackLoop):
        super().__init__()
        self.loop = (loop,)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.loop[0](z)


class Bench:
    """One pair and seed."""

    def __init__(self, case: Case, out: Path, seed: int, steps: int):
        self.case, self.seed, self.out, self.steps = case, seed, out, steps
        self.problem = Problem.of(
            case.G, case.D, case.real, case.latents, seed=seed, folder=out, features=None, attach=case.how
        )
        held = split(case.real, seed).validation
        self.held = held[0] if isinstance(held, tuple) else held

    def loop_of(self, D: torch.nn.Module, **how: Any) -> fbwrap.FeedbackLoop:
        loop = fbwrap.attach(self.case.G, D, None, example=self.case.latents(2), **how)
        loop.latents = LATENTS.get(self.case.name, "normal")
        return loop

    def judged_by(self, head: fbwrap.FeedbackLoop, D: FreshCritic) -> fbwrap.FeedbackLoop:
        """The head's samples as a G without feedback, with another D to judge them."""
        loop = fbwrap.attach(Frozen(head), D, None, example=self.case.latents(2), response="[0]", replay=False)
        loop.latents = "normal"
        return loop

    def new_critic(self, kind: str = "new D", generator: torch.nn.Module | None = None) -> FreshCritic:
        """As many steps as a head of ``fit`` has: 600 alone and 1200 with it."""
        problem, way = self.problem, ways_for(True, False)[WAYS[kind]]
        torch.manual_seed(self.seed)
        D = way.critic(problem.shape, int(problem.classes.max()) + 1)
        real, latents = problem.data_for(way)
        folder = kind if generator is None else f"{kind} of the head"
        steps = head_run.WARMUP + self.steps
        train_discriminator(
            generator or problem.generator, D, real, latents, steps, out=self.out / folder, resume=True, progress=False,
            auxiliary=way.auxiliary(), trackers="none", decay="none", response="[0]", loss="bce",
            critic_lr=way.critic_lr, seed=self.seed,
        )  # fmt: skip
        return D.eval()

    def head(self) -> fbwrap.FeedbackLoop:
        """``fit``'s way whose D names clusters, at its best step and strength."""
        run = HeadRun(self.problem, ways_for(True, False)[0], self.out / "head", self.seed, self.steps)
        for done in range(ROUND, self.steps + 1, ROUND):
            run.train(done)
        run.restore_best()
        run.loop.strength, run.loop.latents = run.best.strength, "normal"
        return run.loop

    def measured(self, sampler: Sampler, unit: float = 1.0) -> dict[str, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(12345)
            drawn = sampler(MEASURED)
        return {
            "frechet": frechet_distance(features(self.case.space, drawn), self.case._test),
            "cost": sampler.cost * unit,
            **{f"noted: {key}": value for key, value in sampler.diagnostics.items()},
        }

    def chosen(
        self, loop: fbwrap.FeedbackLoop, layers: tuple[str, ...], only: Sequence[str] = (), unit: float = 1.0
    ) -> dict[str, Any]:
        """Each method at the settings that the validation part prefers, measured; ``unit``: what a sample costs that is
        chosen from, in calls of G."""
        calibration = fbwrap.calibrate(loop, self.held, batch=250)
        best: dict[str, tuple[float, str, Make]] = {}
        tried: dict[str, float] = {}
        for method, settings, make in grids(loop, calibration, layers):
            if only and method not in only:
                continue
            drawn = make()(CHOSEN_ON)
            found = self.problem.validation.value(self.problem.validation.space(drawn))
            tried[f"{method}, {settings}"] = found
            if method not in best or found < best[method][0]:
                best[method] = (found, settings, make)
        rows = {
            method: {"settings": settings, "validation": found, **self.measured(make(), unit)}
            for method, (found, settings, make) in best.items()
        }
        facts = {"auc": calibration.auc, "error": calibration.error, "slope": calibration.slope}
        return {"calibration": facts, "tried": tried, "methods": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pair", default="wgangp_mnist", choices=sorted(LAYERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--critics", nargs="+", default=[*WAYS, "published D"], help="D's that are asked")
    parser.add_argument("--methods", nargs="*", default=[], help="those alone, such as DRS")
    parser.add_argument("--without-head", action="store_true", help="no head is trained")
    parser.add_argument("--base-seed", type=int, default=0, help="of the bases of clothes, which are trained here")
    parser.add_argument("--base-precision", default="bf16", help="no: for processors that emulate bf16, slowly")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.out)
    case = Case(
        options.pair, options.data, options.weights, options.out, options.base_seed, options.base_precision
    )  # fmt: skip
    layers = LAYERS[options.pair]
    for seed in options.seeds:
        bench = Bench(case, options.out / str(seed), seed, options.steps)
        results.once("base", seed, lambda b=bench: b.measured(Plain(b.loop_of(case.D), batch=250)))
        if options.pair in HEADS and not options.without_head:
            on_the_head(bench, results)
        for kind in (kind for kind in WAYS if kind in options.critics):
            results.once(
                kind,
                seed,
                lambda b=bench, k=kind: b.chosen(b.loop_of(b.new_critic(k), response="[0]"), layers, options.methods),
            )
        if "published D" in options.critics:
            results.once(
                "published D", seed, lambda b=bench: b.chosen(b.loop_of(case.D, **case.how), layers, options.methods)
            )
    print(table(results))


def on_the_head(bench: Bench, results: Results) -> None:
    """The head, and what chooses among its samples."""
    head = bench.head()
    results.once("head", bench.seed, lambda: bench.measured(Plain(head, batch=250)))
    results.once("head, its D", bench.seed, lambda: bench.chosen(head, (), ON_HEADS))
    for kind in WAYS:
        judged, unit = bench.judged_by(head, bench.new_critic(kind, Frozen(head))), head.plan.cost
        results.once(f"head, {kind}", bench.seed, lambda j=judged: bench.chosen(j, (), ON_HEADS, unit))


def table(results: Results) -> str:
    """Markdown: a row a method and D."""
    lines = ["| D | method | settings | cost | Fréchet distance (each seed) |", "| --- | --- | --- | --- | --- |"]
    for row, seeds in results.rows().items():
        if "frechet" in next(iter(seeds.values())):
            found = list(seeds.values())
            lines.append(f"| | {row} | | {_mean(found, 'cost'):.1f} | {_all(found)} |")
            continue
        methods = list(dict.fromkeys(name for numbers in seeds.values() for name in numbers["methods"]))
        for method in methods:
            found = [numbers["methods"][method] for numbers in seeds.values()]
            settings = "; ".join(dict.fromkeys(each["settings"] for each in found))
            lines.append(f"| {row} | {method} | {settings} | {_mean(found, 'cost'):.1f} | {_all(found)} |")
    return "\n".join(lines)


def _mean(found: list[dict[str, Any]], key: str) -> float:
    return sum(each[key] for each in found) / len(found)


def _all(found: list[dict[str, Any]]) -> str:
    each = ", ".join(f"{numbers['frechet']:.1f}" for numbers in found)
    return f"**{_mean(found, 'frechet'):.1f}** ({each})"


if __name__ == "__main__":
    main()
