"""``fbwrap sample --input film.mp4``: each frame given to G, the results a film again.

Examples:
    >>> of_video(loop, Path("film.mp4"), Path("out"), span=(0.0, 1.0), tiles=Tiles(256))    # doctest: +SKIP

Frame by frame, so memory is that of one; feedback looks at each frame by itself. Written as MP4 (H.264) with the rate
of the original, without its sound. The file appears when it is whole.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import plots
from fbwrap.engine.trace import device_of
from fbwrap.errors import SettingError, extra
from fbwrap.files.atomic import atomic_write
from fbwrap.files.pictures import is_picture
from fbwrap.heads.inputs import takes_pictures
from fbwrap.loop import FeedbackLoop
from fbwrap.samplers import Sampler

from .inputs import from_bytes
from .of_pictures import made_of
from .tiles import Tiles
from .writing import Samples

logger = logging.getLogger("fbwrap")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


def is_video(path: Path) -> bool:
    """Whether the name says so."""
    return path.is_file() and path.suffix.lower() in VIDEOS


@torch.no_grad()
def of_video(
    loop: FeedbackLoop,
    source: Path,
    out: Path,
    *,
    span: tuple[float, float],
    noted: Mapping[str, Any] | None = None,
    sampler: Sampler | None = None,
    tiles: Tiles | None = None,
) -> Samples:
    """``out/NAME.mp4``; and an overview of the first frame, step by step (without tiles).

    Args:
        span: what is black and white.
        noted: written into the overview.
        sampler: refines the frames, in place of the loop alone.
        tiles: how large frames are cut; None: not at all.

    Raises:
        SettingError: a file that is no film, or a G that makes no pictures of pictures.
    """
    from tqdm.auto import tqdm

    args, kwargs = loop.facts.example
    if not takes_pictures(args) or len(args) > 1 or kwargs:
        raise SettingError("A film is for a G that takes one picture and nothing else.")
    target, overview = out / f"{source.stem}.mp4", out / "overview.png"
    with _frames_of(source) as (frames, rate, total), atomic_write(target) as part, _film(part, rate) as film:
        place = -1
        for place, frame in enumerate(tqdm(frames, desc="sample", unit="frame", total=total, disable=None)):
            given = from_bytes(frame, args[0].shape[1], span).to(device_of(loop.generator), args[0].dtype)
            made, shown = made_of(loop, given, sampler, tiles)
            if not is_picture(made.shape):
                raise SettingError(f"G makes {tuple(made.shape)} of a frame, and that is not a picture.")
            film.append_data(_as_frame(plots.pictures(made, span)[0]))
            if not place:
                figure = plots.grid(made, span) if shown is None else plots.steps(shown, span)
                plots.save(figure, overview, **(noted or {}))
        if place < 0:
            raise SettingError(f"{source} holds no frame that can be read.")
    if total is not None and place + 1 < 0.9 * total:
        logger.warning("%s: %d frames could be read, of about %d that it announces.", source, place + 1, total)
    return Samples([target], overview)


@contextmanager
def _frames_of(source: Path) -> Iterator[tuple[Any, float, int | None]]:
    """The frames of a film, their rate, and how many they are, if that is known."""
    if find_spec("imageio") is None or find_spec("imageio_ffmpeg") is None:
        raise SettingError(f"Films need imageio with ffmpeg: {extra('plots')}.")
    import imageio.v2 as imageio

    try:
        reader = imageio.get_reader(source, format="FFMPEG")
        facts = reader.get_meta_data()
    except Exception as error:  # ffmpeg fails in any way
        raise SettingError(f"{source} cannot be read as a film: {str(error).splitlines()[0]}") from error
    rate, seconds = float(facts.get("fps") or 25.0), float(facts.get("duration") or 0.0)
    try:
        yield reader.iter_data(), rate, round(rate * seconds) or None
    finally:
        reader.close()


@contextmanager
def _film(part: Path, rate: float) -> Iterator[Any]:
    """A film that is being written."""
    import imageio.v2 as imageio

    writer = imageio.get_writer(part, format="FFMPEG", fps=rate, macro_block_size=2, output_params=["-f", "mp4"])
    try:
        yield writer
    finally:
        writer.close()


def _as_frame(picture: Tensor) -> Any:
    """A picture (C, H, W) from 0 to 1 as a frame; a side of an odd length gets one more row, for H.264 takes none."""
    height, width = picture.shape[1:]
    even = torch.nn.functional.pad(picture[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    return even.expand(3, -1, -1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
