"""Loops as files: the largest difference from the loop, and the file's time over the loop's, in turn, in one run.

    python benchmarks/export.py [--rounds 5] [--out docs/results/export.md]

The pairs of benchmarks/overhead.py with random weights, heads that are not the identity, T = 1. Each loop is exported
with open sizes and alpha as an input; one file then runs at two batch sizes: a torch.export program (.pt2), the same
compiled ahead of time (AOTInductor), and ONNX Runtime. Without gradients.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from overhead import CASES, build, timed

from fbwrap.app import exporting

SAVES = {
    "program (.pt2)": exporting._save_program,
    "ahead of time (.pt2)": exporting._compile,
    "ONNX Runtime": exporting._save_onnx,
}


@torch.no_grad()
def rows(name: str, rounds: int) -> list[str]:
    """A row for each kind of file."""
    _, _, x, loop = build(CASES[name])
    for parameter in loop.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.02)
    loop.eval()
    program = loop.export(x, dynamic=True, strength_input=True)
    alpha, found = torch.tensor(0.7), []
    for kind, save in SAVES.items():
        with tempfile.TemporaryDirectory() as folder:
            path, begin = Path(folder) / f"loop{'.onnx' if kind.startswith('ONNX') else '.pt2'}", time.perf_counter()
            run = save(program, path)
            seconds, size = time.perf_counter() - begin, path.stat().st_size / 2**20
            cells = []
            for count in (1, 4):
                inputs = torch.randn(count, *x.shape[1:])
                wanted = loop.rollout(inputs, strength=0.7).output
                off = float((run((inputs,), {"strength": alpha}) - wanted).abs().max())
                ratios = []
                for _ in range(rounds):
                    mine = timed(lambda inputs=inputs: run((inputs,), {"strength": alpha}))
                    ratios.append(mine / timed(lambda inputs=inputs: loop.rollout(inputs, strength=0.7)))
                cells.append(f"{statistics.median(ratios):.2f} ({off:.0e})")
        found.append(f"| {name} | {kind} | {cells[0]} | {cells[1]} | {size:.1f} MiB | {seconds:.0f} s |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="parts of their names")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| pair | file | time over the loop's, batch of 1 | batch of 4 | size | to make |", "|" + " --- |" * 6]
    for name in CASES:
        if any(part in name for part in options.cases):
            lines += rows(name, options.rounds)
    machine = (
        f"\nMachine: {platform.machine()}, {os.cpu_count()} cores shared with other work, 1 thread, torch "
        f"{torch.__version__}, medians of {options.rounds} rounds; in brackets the largest difference. "
        "`python benchmarks/export.py`"
    )
    print(machine)
    if options.out:
        options.out.write_text(f"# Exported loops\n\n{__doc__.strip()}\n\n" + "\n".join([*lines, machine]) + "\n")


if __name__ == "__main__":
    main()
