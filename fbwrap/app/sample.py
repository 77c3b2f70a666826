"""``fbwrap sample``: what a head makes, as files.

Examples:
    >>> made = sample(loop, Path("samples"), count=16, seed=0)                       # doctest: +SKIP
    >>> made.files[0]                                                                # doctest: +SKIP
    PosixPath('samples/0000.png')
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import plots
from fbwrap.engine.pytree import take_rows
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.files.pictures import is_picture
from fbwrap.heads.inputs import draw_inputs, takes_pictures
from fbwrap.loop import FeedbackLoop
from fbwrap.samplers import Sampler

from .of_pictures import of_pictures
from .of_videos import is_video, of_video
from .tiles import Tiles
from .writing import Samples, png, stored

BATCH = 16
# G's inputs, and names of what is made of them
NamedBatches = Iterator[tuple[tuple[Any, ...], dict[str, Any], list[str]]]


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
    tiles: Tiles | None = None,
) -> Samples:
    """Samples of noise, or of pictures: PNG where they are pictures, else ``samples.safetensors``; ``overview.png``.

    Of pictures transparency is kept, and what was made before is not made again (:mod:`fbwrap.app.of_pictures`).

    Args:
        count, seed, label: of noise; see :func:`fbwrap.heads.inputs.draw_inputs`.
        source: a picture, a folder of them or a film, if G takes pictures.
        span: what is black and white in G's samples (and inputs).
        sampler: draws or refines them, in place of the loop alone.
        tiles: how large pictures are cut (:mod:`fbwrap.app.tiles`); None: not at all.
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
    if tiles is not None and (source is None or sampler is not None):
        raise SettingError("Tiles are for pictures that G takes (--input), and for no sampler.")
    plots.figure_class()  # before anything is computed
    noted: dict[str, Any] = {"seed": seed, "strength": loop.strength, "steps": loop.steps}
    if sampler is not None:
        noted["sampler"] = type(sampler).__name__
    files: list[Path] = []
    first: Any = None
    held: dict[str, Tensor] = {}
    if source is not None:
        of = of_video if is_video(source) else of_pictures
        return of(loop, source, out, span=span, noted=noted, sampler=sampler, tiles=tiles)
    if sampler is not None:
        batches, total = _names_alone(count)
    else:
        batches, total = _noise_in_batches(loop, count, seed, label)
    for inputs, named, stems in tqdm(batches, total=total, desc="sample", unit="batch", disable=None, leave=False):
        if sampler is None:
            rollout = loop.rollout(*inputs, **named)
            first = first or rollout
            output = rollout.output
        else:
            output = sampler(len(stems), label=label)
            first = output if first is None else first
        made = image_of(output).float().cpu()
        if is_picture(made.shape):
            files += [png(one, out / f"{stem}.png", span, noted) for one, stem in zip(made, stems, strict=True)]
        else:
            held |= dict(zip(stems, made, strict=True))
    if held:
        whole = {"samples": torch.stack(list(held.values()))}
        files.append(stored(whole, out / "samples.safetensors", noted))
    overview = plots.steps(first, span) if sampler is None else plots.grid(first, span)
    return Samples(files, plots.save(overview, out / "overview.png", **noted))


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
