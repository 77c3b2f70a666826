"""Quality against cost: one head of `fit` with feedback modules of falling cost, and the same on zeros.

    python benchmarks/cost.py --data DATA --weights WEIGHTS [--seeds 0 1 2] [--plot docs/results/cost.png]

The published WGAN-GP for MNIST, without labels: the way of `fit` whose D names clusters, 1200 steps, one link at G's
last layer from the three stages of D; only the module differs. Training, the best round and the strength are of the
training images; the table's distances are Fréchet's of 10 000 samples to the test images, in the features of a
classifier that learned from labels, measured once at the end. Cost is of a sample with one step of feedback, in
multiples of G: by floating-point operations, and by time, where the loop and G run in turn and the median of their
ratios counts.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from defaults import Case
from fbwrap.adapters.fresh_critic import FreshCritic
from fbwrap.recipes.fitting.controls import TrainedOn
from fbwrap.recipes.fitting.fitting import RATES
from fbwrap.recipes.fitting.head_run import HeadRun
from fbwrap.recipes.fitting.problem import Problem
from fbwrap.recipes.fitting.ways import Way, ways_for
from results import Results

import fbwrap

MODULES: dict[str, Any] = {
    "pyramid": "pyramid",
    "dual": "dual",
    "fpn, ratio 1": {"kind": "fpn", "ratio": 1},
    "fpn, 2 convolutions": {"kind": "fpn", "convs": 2},
    "fpn": "fpn",
    "fpn, ratio 4": {"kind": "fpn", "ratio": 4},
    "light": "light",
}
BLIND = " on zeros"
ROWS = [*MODULES, *(name + BLIND for name in ("pyramid", "fpn", "fpn, 2 convolutions"))]
BATCHES = (1, 16, 64)
ROUND = 200


def way_of(module: Any) -> Way:
    first = ways_for(True, False)[0]
    return Way(first.name, first.teaches, first.lr, first.critic_lr, module)


def row(case: Case, problem: Problem, folder: Path, name: str, seed: int, steps: int) -> dict[str, Any]:
    """One head, trained and measured."""
    of = name.removesuffix(BLIND)
    head = HeadRun(problem, way_of(MODULES[of]), folder / of, seed, steps)
    run = HeadRun(problem, head.way, folder / name, seed, steps, control_of=head) if name != of else head
    for done in range(ROUND, steps + 1, ROUND):
        run.train(done)
    run.restore_best()
    return {
        "frechet": case.distance(run.at(run.best.strength)),
        "validation": run.best.distance,
        "milliseconds a step": 1000 * (run.seconds - head.warmup_seconds) / steps,
        "by step": {score.step: score.distance for score in run.scores},
    }


def trained_on(case: Case, problem: Problem, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """G itself by the same D, at the best of three rates."""
    D = HeadRun(problem, way_of("fpn"), folder / "fpn", seed, steps).warmed_critic
    runs = [TrainedOn(problem, way_of("fpn"), D, folder / f"G {rate}", seed, rate, steps) for rate in RATES]
    for run in runs:
        run.train(ROUND)
        run.train(2 * ROUND)
    best = min(runs, key=lambda run: run.best.distance)
    for done in range(3 * ROUND, steps + 1, ROUND):
        best.train(done)
    return {
        "frechet": case.distance(best.best_network()),
        "validation": best.best.distance,
        "milliseconds a step": 1000 * best.seconds / steps,
        "by step": {score.step: score.distance for score in best.scores},
    }


def attached(case: Case, module: Any) -> fbwrap.FeedbackLoop:
    D = FreshCritic((1, 28, 28), classes=50, naming_is_response=True)
    how = {"example": case.latents(1), "response": "[0]"}
    return fbwrap.attach(case.G, D, [fbwrap.Link("gen.2", D.sources)], module=module, **how)


@torch.no_grad()
def times(case: Case, rounds: int) -> dict[str, list[float]]:
    """The loop's time over G's, by module and batch."""
    loops, found = {name: attached(case, module) for name, module in MODULES.items()}, {name: [] for name in MODULES}
    for batch in BATCHES:
        z, ratios = case.latents(batch), {name: [] for name in MODULES}
        for number in range(rounds + 1):
            for name, loop in loops.items():
                begin = time.perf_counter()
                case.G(z)
                middle = time.perf_counter()
                loop(z)
                ratios[name] += [(time.perf_counter() - middle) / (middle - begin)] * (number > 0)
        for name in MODULES:
            found[name].append(statistics.median(ratios[name]))
    return found


def table(case: Case, results: Results, rounds: int) -> str:
    """Markdown."""
    timed, rows = times(case, rounds), results.rows()
    lines = [
        "| module | parameters | modules / G, FLOPs | a sample / G, FLOPs | by time, batch 1, 16, 64 | "
        "Fréchet distance, mean (each seed) | on the validation part | ms a step |",
        "|" + " --- |" * 8,
    ]
    for name in (*ROWS, "G trained on"):
        held = list(rows.get(name, {}).values())
        if not held:
            continue
        cells = ["", "", "", ""]
        if name in MODULES:
            plan = attached(case, MODULES[name]).plan
            share = plan.share(plan.module_flops)
            cells = [
                f"{plan.parameters:,}",
                f"{share:.2f}",
                f"{plan.cost:.2f}",
                ", ".join(f"{t:.2f}" for t in timed[name]),
            ]
        seeds = [numbers["frechet"] for numbers in held]
        inside = statistics.mean(numbers["validation"] for numbers in held)
        speed = statistics.mean(numbers["milliseconds a step"] for numbers in held)
        cells.append(f"**{statistics.mean(seeds):.1f}** ({', '.join(f'{value:.1f}' for value in seeds)})")
        lines.append(f"| {' | '.join([name, *cells])} | {inside:.3f} | {speed:.0f} |")
    return "\n".join(lines)


def plot(case: Case, results: Results, base: float, path: Path) -> None:
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6.4, 3.6), layout="constrained")).subplots()
    for name in ROWS:
        held = [numbers["frechet"] for numbers in results.rows().get(name, {}).values()]
        if not held:
            continue
        cost = attached(case, MODULES[name.removesuffix(BLIND)]).plan.cost
        (line,) = axes.plot([cost] * len(held), held, "o" if name in MODULES else "x", label=name)
        axes.plot([cost], [statistics.mean(held)], "_", markersize=14, color=line.get_color())
    axes.axhline(base, color="grey", linewidth=1, label="base")
    axes.set(xscale="log", yscale="log", xlabel="a sample, multiples of G (FLOPs)", ylabel="Fréchet distance")
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=[*ROWS, "G trained on"])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=15, help="of the timing")
    parser.add_argument("--out", type=Path, default=Path("runs/cost"))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.out)
    case = Case("wgangp_mnist", options.data, options.weights, options.out)
    for seed in options.seeds:
        folder, problem = options.out / str(seed), None
        for name in options.rows:
            if seed in results.rows().get(name, {}):
                continue
            problem = problem or Problem.of(
                *(case.G, case.D, case.real, case.latents),
                seed=seed, folder=folder / "space", features=None, attach={},
            )  # fmt: skip
            given = (case, problem, folder)
            if name == "G trained on":
                results.once(name, seed, lambda: trained_on(*given, seed, options.steps))
            else:
                results.once(name, seed, lambda name=name: row(*given, name, seed, options.steps))
    print(table(case, results, options.rounds))
    if options.plot:
        plot(case, results, case.distance(case.G), options.plot)


if __name__ == "__main__":
    main()
