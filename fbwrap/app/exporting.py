"""``fbwrap export``: a loop as a file that runs without fbwrap, and without the code that G came from.

Examples:
    >>> exported = write(loop, Path("loop.onnx"), seed=0)                                # doctest: +SKIP
    >>> exported.checks[0].difference                                                    # doctest: +SKIP
    1.2e-06

Two kinds: ``.onnx`` for ONNX Runtime and others, by torch's own exporter; ``.pt2``, a program that
``torch.export.load(file).module()`` runs, or with ``ahead_of_time`` a library for this machine that
``torch._inductor.aoti_load_package(file)`` runs. The file is run, and compared with the loop, before it is kept.
"""

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fbwrap.engine.pytree import map_tensors, tensors
from fbwrap.engine.trace import device_of
from fbwrap.errors import SettingError, UnsupportedError, extra, short
from fbwrap.feedback.critic import image_of
from fbwrap.feedback.export import STRENGTH, dynamic_axes
from fbwrap.files.atomic import atomic_write
from fbwrap.heads.inputs import draw_inputs, takes_pictures
from fbwrap.loop import FeedbackLoop

KINDS = (".onnx", ".pt2")
_CLOSE = 1e-3  # of the largest value: more is another result, not another order of additions
_ROUNDS = 3
Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Run = Callable[[tuple[Any, ...], dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Check:
    """One run of the file beside the loop: the inputs' shapes, α, the largest difference, and both times in seconds."""

    shapes: tuple[tuple[int, ...], ...]
    strength: float
    difference: float
    file_seconds: float
    loop_seconds: float


@dataclass(frozen=True)
class Exported:
    """What was written: its inputs with their open axes, its size in bytes, and the runs that were compared."""

    path: Path
    inputs: dict[str, tuple[int, ...]]
    size: int
    checks: tuple[Check, ...]


@torch.no_grad()
def write(
    loop: FeedbackLoop,
    path: Path,
    *,
    dynamic: bool = True,
    strength_input: bool = False,
    ahead_of_time: bool = False,
    seed: int = 0,
) -> Exported:
    """Write a loop as one file, with the steps and strength that it has now.

    Args:
        path: ``.onnx`` or ``.pt2``.
        dynamic, strength_input: as of :meth:`fbwrap.FeedbackLoop.export`.
        ahead_of_time: ``.pt2`` alone: compiled for this machine.
        seed: of the inputs with which the file is run.

    Raises:
        SettingError: another kind of file, or a package that is missing.
        UnsupportedError: torch cannot make one graph of the loop, or what the file gives differs.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise SettingError(f"{path}: pass a file that ends in {' or '.join(KINDS)}.")
    if ahead_of_time and kind != ".pt2":
        raise SettingError("--ahead-of-time needs --to FILE.pt2.")
    if kind == ".onnx":
        _check_onnx()
    args, kwargs = _inputs(loop, seed)
    program = loop.export(*args, dynamic=dynamic, strength_input=strength_input, **kwargs)
    with atomic_write(path) as part:
        save = _save_onnx if kind == ".onnx" else _compile if ahead_of_time else _save_program
        run = save(program, part)
        trials = [(args, kwargs), *(_other_sizes((args, kwargs), program) if dynamic else ())]
        strengths = (1.0, 0.3) if strength_input else (None,)
        checks = tuple(_checked(loop, run, trial, alpha) for trial in trials for alpha in strengths)
    return Exported(path, dynamic_axes(program), path.stat().st_size, checks)


def _inputs(loop: FeedbackLoop, seed: int) -> Inputs:
    """Inputs of two samples like the head's example; a picture is noise."""
    args, kwargs = loop.facts.example
    if not takes_pictures(args) and not any(takes_pictures((value,)) for value in kwargs.values()):
        return draw_inputs(loop, 2, seed)
    generator, device = torch.Generator().manual_seed(seed), device_of(loop.generator)

    def like(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.to(device)
        return torch.rand(tensor.shape, generator=generator).to(device, tensor.dtype)

    return map_tensors(like, (args, kwargs))


def _other_sizes(inputs: Inputs, program: ExportedProgram) -> Iterator[Inputs]:
    """The same with one sample more, and pictures twice as large, where the program leaves that open."""
    open_axes = list(dynamic_axes(program).values())[: sum(1 for _ in tensors(inputs))]
    if open_axes and all(0 in axes for axes in open_axes):
        yield map_tensors(lambda tensor: torch.cat([tensor, tensor[:1]]), inputs)
    if any(axis > 1 for axes in open_axes for axis in axes):
        places = iter(open_axes)

        def larger(tensor: Tensor) -> Tensor:
            for axis in next(places):
                if axis > 1:  # twice as large: what is halved within still fits
                    tensor = torch.cat([tensor, tensor], axis)
            return tensor

        yield map_tensors(larger, inputs)


def _checked(loop: FeedbackLoop, run: Run, inputs: Inputs, strength: float | None) -> Check:
    """Run the file and the loop in turn, and compare."""
    args, kwargs = inputs
    alpha = loop.strength if strength is None else strength
    named = kwargs if strength is None else {**kwargs, STRENGTH: torch.tensor(strength)}
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        found = run(args, named)
        between = time.perf_counter()
        wanted = image_of(loop.rollout(*args, strength=strength, **kwargs).output)
        times[0].append(between - begin)
        times[1].append(time.perf_counter() - between)
    difference = float((found.to(wanted) - wanted).abs().max())
    if not difference <= _CLOSE * max(1.0, float(wanted.abs().max())):
        raise UnsupportedError(
            f"The file gives other samples than the loop: they differ by {difference:.2g} at most. It was not kept."
        )
    shapes = tuple(tuple(tensor.shape) for _, tensor in tensors(inputs))
    return Check(shapes, float(alpha), difference, *map(statistics.median, times))


def _save_program(program: ExportedProgram, path: Path) -> Run:
    with open(path, "wb") as file:
        torch.export.save(program, file)
    with open(path, "rb") as file:
        loaded = torch.export.load(file).module()
    return lambda args, kwargs: image_of(loaded(*args, **kwargs))


def _compile(program: ExportedProgram, path: Path) -> Run:
    package = path.with_suffix(".aoti.pt2")
    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(package))
        package.replace(path)
        loaded = torch._inductor.aoti_load_package(str(path))
    except Exception as error:
        package.unlink(missing_ok=True)
        raise UnsupportedError(
            f"torch cannot compile this loop here: {type(error).__name__}: {short(error, 200)}. It needs a C++ "
            "compiler; without --ahead-of-time the file needs none."
        ) from error
    return lambda args, kwargs: image_of(loaded(*args, **kwargs))


def _check_onnx() -> None:
    lacks = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if lacks:
        raise SettingError(f"ONNX needs more packages, {', '.join(lacks)}: {extra('onnx')}")


def _save_onnx(program: ExportedProgram, path: Path) -> Run:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    if made is None:
        raise UnsupportedError("torch gave no ONNX model of this loop.")
    made.save(path, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given = [tensor.cpu().numpy() for _, tensor in tensors((args, kwargs))]
        outputs = session.run(None, dict(zip(names, given, strict=True)))
        return image_of([torch.from_numpy(output) for output in outputs])

    return run
