"""``fbwrap sample --input``: pictures in a folder, each given to G, each to a file of its name.

Examples:
    >>> of_pictures(loop, Path("photos"), Path("out"), span=(0.0, 1.0), tiles=Tiles(256))    # doctest: +SKIP

A picture that was made before, of the same file by the same networks and settings, is not made again: the same command
goes on where it was stopped.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import plots
from fbwrap.engine.fingerprint import fingerprint
from fbwrap.feedback.critic import image_of
from fbwrap.files.pictures import is_picture
from fbwrap.loop import FeedbackLoop
from fbwrap.samplers import Sampler

from .inputs import alpha_of, picture, pictures_of
from .tiles import Tiles, in_tiles
from .writing import Samples, png, stored


@torch.no_grad()
def of_pictures(
    loop: FeedbackLoop,
    source: Path,
    out: Path,
    *,
    span: tuple[float, float],
    noted: Mapping[str, Any] | None = None,
    sampler: Sampler | None = None,
    tiles: Tiles | None = None,
) -> Samples:
    """A file for each picture, with its transparency; and an overview of the first, step by step (without tiles).

    Args:
        source: a picture, or a folder of them.
        span: what is black and white.
        noted: written into each file.
        sampler: refines them, in place of the loop alone.
        tiles: how large pictures are cut; None: not at all.
    """
    from tqdm.auto import tqdm

    paths = list(pictures_of(source))
    names, about = _names(paths), {**(noted or {})}
    overview, files = out / "overview.png", []
    held: dict[str, Tensor] = {}
    links = [loop[place].strength for place in range(len(loop))]
    settings = _digest(f"{_weights(loop)} {links} {about} {span} {tiles}".encode())
    for path in tqdm(paths, desc="sample", unit="picture", disable=None, leave=False):
        file = out / f"{names[path]}.png"
        key = {"input": _digest(path.read_bytes()), "settings": settings}
        if sampler is None and overview.is_file() and _is_made(file, key):
            files.append(file)
            continue
        given = picture(path, loop, span)
        made, shown = made_of(loop, given, sampler, tiles)
        if is_picture(made.shape):
            files.append(png(made[0], file, span, {**about, **key}, alpha_of(path)))
        else:
            held[names[path]] = made[0]
        if path is paths[0] or not overview.is_file():
            figure = plots.grid(made, span) if shown is None else plots.steps(shown, span)
            plots.save(figure, overview, **about)
    if held:
        files.append(stored(held, out / "samples.safetensors", about))
    return Samples(files, overview)


def made_of(loop: FeedbackLoop, given: Tensor, sampler: Sampler | None, tiles: Tiles | None) -> tuple[Tensor, Any]:
    """What becomes of one picture, and the rollout where there is one."""
    if sampler is not None:
        return image_of(sampler.refine(given)).float().cpu(), None
    if tiles is not None:
        return in_tiles(lambda part: image_of(loop(part)), given, tiles), None
    rollout = loop.rollout(given)
    return image_of(rollout.output).float().cpu(), rollout


def _weights(loop: FeedbackLoop) -> list[str]:
    nets = [loop.feedback, loop.generator, *([loop.discriminator] if loop.discriminator is not None else [])]
    return [fingerprint(net)["weights"] for net in nets]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _is_made(file: Path, key: Mapping[str, str]) -> bool:
    if not file.is_file():
        return False
    try:
        return key.items() <= plots.facts(file).items()
    except OSError:  # somebody else's file
        return False


def _names(paths: list[Path]) -> dict[Path, str]:
    """A name for what is made of each picture, no two alike, and none the overview's."""
    found: dict[Path, str] = {}
    for path in paths:
        name = path.stem
        while name in found.values() or name == "overview":
            name = path.name.replace(".", "_") if name == path.stem else f"{name}_"
        found[path] = name
    return found
