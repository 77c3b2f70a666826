"""``fbwrap sample``: what a head makes, as files.

Examples:
    >>> made = sample(loop, Path("samples"), count=16, seed=0)                       # doctest: +SKIP
    >>> made.files[0]                                                                # doctest: +SKIP
    PosixPath('samples/0000.png')
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import plots
from fbwrap.engine.pytree import take_rows
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.files.atomic import atomic_write
from fbwrap.files.pictures import is_picture
from fbwrap.heads.inputs import draw_inputs, takes_pictures
from fbwrap.loop import FeedbackLoop
from fbwrap.samplers import Sampler

from .inputs import picture, pictures_of

BATCH = 16
# G's inputs, and names of what is made of them
NamedBatches = Iterator[tuple[tuple[Any, ...], dict[str, Any], list[str]]]


@dataclass(frozen=True)
class Samples:
    """What was written: a file a sample (pictures) or one for all, and a picture of the first, step by step."""

    files: list[Path]
    overview: Path


@torch.no_grad()
def sample(
    loop: FeedbackLoop,
    out: Path,
    *,
    count: int = 16,
    seed: int = 0,
    label: int | None = None,
    source: Path | None = None,
    span: tuple[float, float] = plots.SIGNED,
    sampler: Sampler | None = None,
) -> Samples:
    """Samples of noise, or of pictures: PNG where they are pictures, else ``samples.safetensors``; ``overview.png``.

    Args:
        count, seed, label: of noise; see :func:`fbwrap.heads.inputs.draw_inputs`.
        source: a picture or a folder of them, if G takes pictures.
        span: what is black and white in G's samples (and inputs).
        sampler: draws or refines them, in place of the loop alone.
    """
    from tqdm.auto import tqdm

    args, _ = loop.facts.example
    if source is not None and not takes_pictures(args):
        raise SettingError("This head's G takes no pictures: leave out --input.")
    if source is None and takes_pictures(args):
        raise SettingError("This head's G takes pictures: pass --input, a picture or a folder of them.")
    if source is not None and out.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise SettingError(
            f"--out {out} holds the pictures that are read: they would be overwritten. Pass another one."
        )
    plots.figure_class()  # before anything is computed
    noted: dict[str, Any] = {"seed": seed, "strength": loop.strength, "steps": loop.steps}
    if sampler is not None:
        noted["sampler"] = type(sampler).__name__
    files: list[Path] = []
    first: Any = None
    held: dict[str, Tensor] = {}
    if source is not None:
        batches, total = _pictures_in_turn(loop, source, span)
    elif sampler is not None:
        batches, total = _names_alone(count)
    else:
        batches, total = _noise_in_batches(loop, count, seed, label)
    for inputs, named, stems in tqdm(batches, total=total, desc="sample", unit="batch", disable=None, leave=False):
        if sampler is None:
            rollout = loop.rollout(*inputs, **named)
            first = first or rollout
            output = rollout.output
        else:
            output = sampler.refine(*inputs, **named) if source is not None else sampler(len(stems), label=label)
            first = output if first is None else first
        made = image_of(output).float().cpu()
        if is_picture(made.shape):
            files += [_png(one, out / f"{stem}.png", span, noted) for one, stem in zip(made, stems, strict=True)]
        else:
            held |= dict(zip(stems, made, strict=True))
    if held and source is None:
        held = {"samples": torch.stack(list(held.values()))}
    if held:
        files.append(_stored(held, out / "samples.safetensors", noted))
    overview = plots.steps(first, span) if sampler is None else plots.grid(first, span)
    return Samples(files, plots.save(overview, out / "overview.png", **noted))


def _pictures_in_turn(loop: FeedbackLoop, source: Path, span: tuple[float, float]) -> tuple[NamedBatches, int]:
    """Each picture as G's input, and how many there are."""
    paths = list(pictures_of(source))
    stems_of = _names(paths)
    return (((picture(path, loop, span),), {}, [stems_of[path]]) for path in paths), len(paths)


def _noise_in_batches(loop: FeedbackLoop, count: int, seed: int, label: int | None) -> tuple[NamedBatches, int]:
    """Seeded inputs in batches, and how many batches there are."""
    names = [f"{place:04d}" for place in range(count)]
    inputs, named = draw_inputs(loop, count, seed, label)
    starts = range(0, count, BATCH)

    def batches() -> NamedBatches:
        for begin in starts:
            end = begin + BATCH
            part, part_named = take_rows((inputs, named), begin, end, of=count)
            yield part, part_named, names[begin:end]

    return batches(), len(starts)


def _names_alone(count: int) -> tuple[NamedBatches, int]:
    """Names in batches: the sampler draws its inputs itself. One batch, so that its cost and its notes are of all."""
    return iter([((), {}, [f"{place:04d}" for place in range(count)])]), 1


def _png(image: Tensor, path: Path, span: tuple[float, float], noted: dict[str, object]) -> Path:
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in noted.items():
        info.add_text(f"fbwrap:{key}", str(value))
    pixels = plots.unit(image, span).mul(255).round().byte()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    with atomic_write(path) as part:
        Image.fromarray(array).save(part, format="PNG", pnginfo=info)
    return path


def _names(paths: list[Path]) -> dict[Path, str]:
    """A name for what is made of each picture, no two alike, and none the overview's."""
    found: dict[Path, str] = {}
    for path in paths:
        name = path.stem
        while name in found.values() or name == "overview":
            name = path.name.replace(".", "_") if name == path.stem else f"{name}_"
        found[path] = name
    return found


def _stored(made: dict[str, Tensor], path: Path, noted: dict[str, object]) -> Path:
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        save_file(
            {key: value.contiguous() for key, value in made.items()},
            part,
            {key: str(value) for key, value in noted.items()},
        )
    return path
