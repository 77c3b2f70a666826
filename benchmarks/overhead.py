"""What the loop costs beyond its parts, what it saves against naive reruns, and training memory.

    python benchmarks/overhead.py [--rounds 7] [--out docs/results/overhead.md]
    pip install onnx onnxscript onnxruntime      # for the rows of ONNX Runtime

Loop time is divided by the sum of its parts, G + T × (D up to the last tap + modules + G from the first
corrected layer on), each part run by hand, and by the naive loop (all of G and D anew, torch's own hooks).
Everything is timed in turn within each round; the table holds the median over rounds of the ratios.
Memory: the peak of resident memory in one AFL training step above what was there before, in a process of its
own, against the naive step (all of G and D with gradients, full graphs).

The second table is the same loop run by `torch.compile(loop)`, and by ONNX Runtime from
`torch.onnx.export(loop.export(x))`: each over the eager loop, in turn, without gradients. In brackets: seconds until
the first result.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import VGG128, RRDBNet, dcgan_d, dcgan_g, patchgan, resnet9, voxel_d, voxel_g
from torch import Tensor, nn

import fbwrap
from fbwrap.feedback.features import resize


@dataclass
class Case:
    """A pair, its links (G layer, D layer), and the parts by hand.

    ``prefix`` gives the features that the suffix needs; ``suffix`` runs from there, correcting as told.
    """

    make: Callable[[], tuple[nn.Module, nn.Module]]
    example: tuple[int, ...]
    links: list[tuple[str, str]]
    module: Any
    part: Callable[[nn.Module, Tensor], list[Tensor]]
    prefix: Callable[[nn.Module, Tensor], Any]
    suffix: Callable[[nn.Module, Any, Callable[[int, Tensor], Tensor]], Tensor]
    batch_in_training: int = 4


def sequential_part(places: list[int], body: Callable[[nn.Module], nn.Module] = lambda d: d):
    def part(D: nn.Module, y: Tensor) -> list[Tensor]:
        found = []
        for place, layer in enumerate(body(D)[: max(places) + 1]):
            y = layer(y)
            if place in places:
                found.append(y.clone() if place < max(places) else y)
        return [found[sorted(places).index(place)] for place in places]

    return part


def sequential_suffix(places: list[int]):
    def suffix(G: nn.Module, h: Tensor, correct: Callable[[int, Tensor], Tensor]) -> Tensor:
        h = correct(0, h)
        for place in range(places[0] + 1, len(G)):
            h = G[place](h)
            if place in places:
                h = correct(places.index(place), h)
        return h

    return suffix


def rrdb_suffix(G: nn.Module, seen: tuple[Tensor, Tensor], correct: Callable[[int, Tensor], Tensor]) -> Tensor:
    first, h = seen
    h = correct(0, h)
    for place in range(6, 23):
        h = G.body[place](h)
        if place in (11, 17, 22):
            h = correct((5, 11, 17, 22).index(place), h)
    return G.rest(first, h)


def rrdb_prefix(G: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    first = G.conv_first(x)
    return first, G.body[:6](first)


CASES = {
    "RRDBNet-23 + VGG128, 32→128, batch 1, 4 dual (3 convs, no norm)": Case(
        lambda: (RRDBNet(), VGG128()),
        (1, 3, 32, 32),
        [("body.5", "features.16"), ("body.11", "features.10"), ("body.17", "features.7"), ("body.22", "features.4")],
        {"kind": "dual", "convs": 3, "norm": "none"},
        sequential_part([16, 10, 7, 4], lambda d: d.features),
        rrdb_prefix,
        rrdb_suffix,
        2,
    ),
    "DCGAN-64, batch 16, 4 light": Case(
        lambda: (dcgan_g(), dcgan_d()),
        (16, 100, 1, 1),
        [("2", "10"), ("5", "7"), ("8", "4"), ("11", "1")],
        "light",
        sequential_part([10, 7, 4, 1]),
        lambda G, x: G[:3](x),
        sequential_suffix([2, 5, 8, 11]),
        64,
    ),
    "ResNet-9 pix2pix, 128×256, batch 1, 1 dual": Case(
        lambda: (resnet9(), patchgan(3)),
        (1, 3, 128, 256),
        [("14", "7")],
        "dual",
        sequential_part([7]),
        lambda G, x: G[:15](x),
        sequential_suffix([14]),
    ),
    "3-D GAN, 32³, batch 4, 1 dual": Case(
        lambda: (voxel_g(), voxel_d()),
        (4, 100, 1, 1, 1),
        [("5", "3")],
        "dual",
        sequential_part([3]),
        lambda G, x: G[:6](x),
        sequential_suffix([5]),
        48,
    ),
}


def build(case: Case, batch: int | None = None):
    torch.manual_seed(0)
    G, D = (net.eval() for net in case.make())
    shape = (batch or case.example[0], *case.example[1:])
    x = torch.randn(shape)
    loop = fbwrap.attach(G, D, case.links, module=case.module, example=torch.randn(case.example))
    with torch.no_grad():
        for parameter in loop.parameters():
            parameter.normal_(std=0.01)
    # the order of the loop's links is the order in which G reaches them
    order = [next(i for i, (g, _) in enumerate(case.links) if g == str(c.target)) for c in loop.connections]
    assert order == list(range(len(order)))
    return G, D, x, loop


def naive(G: nn.Module, D: nn.Module, x: Tensor, loop: fbwrap.FeedbackLoop, case: Case, steps: int) -> Tensor:
    """All of G and D at each step, with torch's own hooks."""
    y = G(x)
    for _ in range(steps):
        seen: dict[str, Tensor] = {}
        handles = [
            D.get_submodule(d).register_forward_hook(lambda m, a, o, d=d: seen.__setitem__(d, o.clone()))
            for _, d in case.links
        ]
        D(y)
        for place, (g, d) in enumerate(case.links):

            def hook(m, a, o, place=place, d=d):
                return o + loop.feedback[place](o, resize(seen[d], tuple(o.shape[2:])))

            handles.append(G.get_submodule(g).register_forward_hook(hook))
        y = G(x)
        for handle in handles:
            handle.remove()
    return y


def timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@torch.no_grad()
def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Ratios of the loop to its parts and to the naive loop, T = 1 to 3."""
    G, D, x, loop = build(case)
    y = G(x)
    assert torch.allclose(loop(x), naive(G, D, x, loop, case, 1), atol=1e-4)
    signals, seen, features = case.part(D, y), case.prefix(G, x), {}
    case.suffix(G, seen, lambda i, h: features.setdefault(i, h.clone()))
    fitted = [resize(s, tuple(features[i].shape[2:])) for i, s in enumerate(signals)]
    corrections = [m(features[i], fitted[i]) for i, m in enumerate(loop.feedback)]

    def modules() -> None:
        for i, module in enumerate(loop.feedback):
            module(features[i], resize(signals[i], tuple(features[i].shape[2:])))

    def suffix() -> None:
        case.suffix(G, seen, lambda i, h: h + corrections[i])

    found: dict[str, Any] = {f"{kind}{t}": [] for kind in ("parts", "naive") for t in (1, 2, 3)}
    g_times = []
    for number in range(rounds + 1):
        g, d = timed(lambda: G(x)), timed(lambda: case.part(D, y))
        f, s = timed(modules), timed(suffix)
        for t in (1, 2, 3):
            loop.steps = t
            mine = timed(lambda: loop(x))
            whole = timed(lambda: naive(G, D, x, loop, case, t))
            if number:  # the first round warms up
                found[f"parts{t}"].append(mine / (g + t * (d + f + s)))
                found[f"naive{t}"].append(mine / whole)
        g_times.append(g)
    flops = {t: loop.plan.flops(t) / loop.plan.flops(t, naive=True) for t in (1, 2, 3)}
    return {
        **{key: statistics.median(values) for key, values in found.items()},
        "flops": flops,
        "g": statistics.median(g_times[1:]),
    }


@torch.no_grad()
def graphs(case: Case, rounds: int) -> list[str]:
    """Compiled and exported loops over the eager one: cells of a row."""
    _, _, x, loop = build(case)
    cells: list[str] = []
    for steps in (1, 2):
        loop.steps = steps
        wanted = loop(x)
        ways = {"compiled": compiled, "onnx": onnx_runtime}
        for make in ways.values():
            begin = time.perf_counter()
            run = make(loop, x)
            found = run()
            seconds, ratios = time.perf_counter() - begin, []
            assert torch.allclose(found, wanted, atol=1e-4)
            for _ in range(rounds):
                eager = timed(lambda: loop(x))
                ratios.append(timed(run) / eager)
            cells.append(f"{statistics.median(ratios):.2f} ({seconds:.0f} s)")
    return [cells[i] for i in (0, 2, 1, 3)]


def compiled(loop: fbwrap.FeedbackLoop, x: Tensor) -> Callable[[], Tensor]:
    torch.compiler.reset()
    fast = torch.compile(loop, fullgraph=True)
    return lambda: fast(x)


def onnx_runtime(loop: fbwrap.FeedbackLoop, x: Tensor) -> Callable[[], Tensor]:
    import onnxruntime

    program = torch.onnx.export(loop.export(x), (x,), dynamo=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/loop.onnx"
        program.save(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0])


def training_step(case: Case, way: str) -> int:
    """The peak of resident memory in one AFL training step, above what was there before, in kB."""
    G, D, x, loop = build(case, case.batch_in_training)
    loop.train()
    if way == "fbwrap":
        for net in (G, D):
            net.requires_grad_(False)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = resident("VmRSS")
    y = loop(x) if way == "fbwrap" else naive(G, D, x, loop, case, 1)
    nn.functional.softplus(-D(y)).mean().backward()
    return resident("VmHWM") - before


def resident(which: str) -> int:
    """This process's resident memory (VmRSS) or its peak (VmHWM), in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1])


def memory(name: str, way: str) -> int:
    command = [sys.executable, __file__, "--memory", name, way]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(found.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-graphs", dest="graphs", action="store_false", help="the first table alone")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(training_step(CASES[options.memory[0]], options.memory[1]))
        return
    lines = [
        "| pair | G, ms | loop / sum of its parts, T = 1, 2, 3 | loop / naive, T = 1, 2, 3 | the same by FLOPs "
        "| memory of a training step / naive |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, case in CASES.items():
        found = measure(case, options.rounds)
        ratio = memory(name, "fbwrap") / memory(name, "naive")
        parts, whole = (", ".join(f"{found[f'{kind}{t}']:.3f}" for t in (1, 2, 3)) for kind in ("parts", "naive"))
        flops = ", ".join(f"{found['flops'][t]:.3f}" for t in (1, 2, 3))
        lines.append(f"| {name} | {1000 * found['g']:.1f} | {parts} | {whole} | {flops} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    if options.graphs:
        lines += [
            "\n| pair | compiled / eager, T = 1, 2 | | ONNX Runtime / eager, T = 1, 2 | |",
            "| --- |" + " --- |" * 4,
        ]
        for name, case in CASES.items():
            lines.append(f"| {name} | {' | '.join(graphs(case, options.rounds))} |")
            print(lines[-1], flush=True)
    machine = (
        f"\nMachine: {platform.machine()}, {os.cpu_count()} cores shared with other work, "
        f"{options.threads} thread(s), torch {torch.__version__}, medians of {options.rounds} rounds. "
        "`python benchmarks/overhead.py`"
    )
    table = "\n".join([*lines, machine])
    if options.out:
        options.out.write_text(f"# Overhead\n\n{__doc__.strip()}\n\n{table}\n")
    print(machine)


if __name__ == "__main__":
    main()
