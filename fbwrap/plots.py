"""Pictures of a loop's work: steps, differences, D's response, strengths, voxels, animations.

Examples:
    >>> rollout = loop.rollout(z, steps=3)                                          # doctest: +SKIP
    >>> fbwrap.plots.save(fbwrap.plots.steps(rollout), "steps.png", seed=0)         # doctest: +SKIP

Samples are images ``(N, C, H, W)``: of one or three channels as they are, of others the mean over channels; voxels
``(N, C, X, Y, Z)`` are seen along the first axis, signals ``(N, C, L)`` and tokens ``(N, L, C)`` as one row of pixels a
channel. ``value_range`` is what is shown as black and white. All but :func:`animation` return a matplotlib figure that
belongs to no window; matplotlib (and for animations Pillow, or imageio with ffmpeg) is needed only here.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import CriticError, HeadError, SettingError
from .feedback.critic import image_of
from .feedback.loop import Loop
from .feedback.rollout import Rollout

Range = tuple[float, float]
SIGNED: Range = (-1.0, 1.0)
_LONGEST = 512


def unit(sample: Tensor, value_range: Range) -> Tensor:
    """A sample brought to [0, 1], what lies outside clamped."""
    low, high = value_range
    if not low < high:
        raise SettingError(f"value_range={value_range}: pass what is shown as black, then as white, such as (-1, 1).")
    return (sample.clamp(low, high) - low) / (high - low)


def flat(sample: Tensor) -> Tensor:
    """Any batch of samples as pictures ``(N, 1 or 3, H, W)``, on the CPU, their values as they are."""
    sample = sample.detach().float().cpu()
    while sample.dim() > 4:
        sample = sample.mean(2)
    if sample.dim() < 4:
        rows = sample.reshape(len(sample), 1, -1, sample.shape[-1])
        if rows.shape[-1] > _LONGEST:  # a sound: its mean, in as many pieces, tall enough to be seen
            rows = F.adaptive_avg_pool2d(rows, (rows.shape[2], _LONGEST)).repeat_interleave(_LONGEST // 16, 2)
        return rows
    return sample if sample.shape[1] in (1, 3) else sample.mean(1, keepdim=True)


def pictures(output: Any, value_range: Range = SIGNED) -> Tensor:
    """What G returned as RGB pictures ``(N, 3, H, W)`` in [0, 1]."""
    return unit(flat(image_of(output)), value_range).expand(-1, 3, -1, -1)


def answers_of(rollout: Rollout) -> tuple[Tensor, ...]:
    """D's response to each step; () where there is no whole D to ask, or it has no answer for each sample."""
    try:
        answers = rollout.responses
    except (CriticError, HeadError):
        return ()
    samples = len(image_of(rollout.output))
    return answers if all(answer.dim() and len(answer) == samples for answer in answers) else ()


def steps(rollout: Rollout, value_range: Range = SIGNED, samples: int = 8) -> Any:
    """A row a sample, a column a step; above each, D's mean response to it if there is a whole D."""
    first = int(rollout.starts_from_zeros)
    columns = [pictures(output, value_range)[:samples] for output in rollout.outputs[first:]]
    figure, panels = _panels(len(columns[0]), len(columns))
    answers = answers_of(rollout)[first:]
    for t, column in enumerate(columns):
        for row, picture in enumerate(column):
            _show(panels[row][t], picture)
            if answers:
                panels[row][t].set_title(f"{float(answers[t][row].float().mean()):.2f}", fontsize=7, pad=2)
        panels[-1][t].set_xlabel(f"t = {first + t}", fontsize=8)
    if answers:
        figure.suptitle("over each sample: D's mean response", fontsize=8)
    return figure


def difference(before: Any, after: Any, value_range: Range = SIGNED, samples: int = 8) -> Any:
    """Rows: without feedback, with, and the difference (red: brighter, blue: darker, on one scale)."""
    a, b = (flat(image_of(each))[:samples] for each in (before, after))
    change = (b - a).mean(1)
    most = float(change.abs().max()) or 1.0
    figure, panels = _panels(3, len(a))
    for column in range(len(a)):
        _show(panels[0][column], pictures(a, value_range)[column])
        _show(panels[1][column], pictures(b, value_range)[column])
        shown = panels[2][column].imshow(change[column].numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
    for row, name in enumerate(("without", "with", "difference")):
        panels[row][0].set_ylabel(name, fontsize=8)
    figure.colorbar(shown, ax=[row[-1] for row in panels], shrink=0.6)
    return figure


def responses(rollout: Rollout, value_range: Range = SIGNED, samples: int = 4) -> Any:
    """A row a sample, a column a step, D's response map laid over it: red where D finds it fake (FAL Fig. 8).

    Raises:
        SettingError: D answers with one number a sample.
    """
    first = int(rollout.starts_from_zeros)
    return response_overlay(rollout.outputs[first:], rollout.responses[first:], value_range, samples, first)


def response_overlay(
    outputs: Sequence[Any], answers: Sequence[Tensor], value_range: Range = SIGNED, samples: int = 4, first: int = 0
) -> Any:
    """As :func:`responses`, of outputs and responses one by one; ``first`` is the step of the first."""
    check_map(answers[0])
    heats = [flat(answer).mean(1, keepdim=True)[:samples] for answer in answers]
    low, high = min(float(h.min()) for h in heats), max(float(h.max()) for h in heats)
    figure, panels = _panels(len(heats[0]), len(heats))
    for t, (output, heat) in enumerate(zip(outputs, heats, strict=True)):
        below = pictures(output, value_range)[:samples]
        heat = F.interpolate(heat, below.shape[2:], mode="bilinear")
        for row, picture in enumerate(below):
            _show(panels[row][t], picture)
            shown = panels[row][t].imshow(heat[row, 0].numpy(), cmap="coolwarm_r", vmin=low, vmax=high, alpha=0.5)
        panels[0][t].set_title(f"t = {first + t}", fontsize=9)
    figure.colorbar(shown, ax=panels.ravel().tolist(), label="D's response")
    return figure


def check_map(answer: Tensor) -> None:
    """Refuse D's response where it is one number a sample."""
    if answer.dim() < 4 or answer[0, 0].numel() == 1:
        raise SettingError(
            f"D answers with {tuple(answer.shape)}, one number a sample: there is no map to show. Attach with "
            "response=, where in D's answer a map is, or with a D that does not pool."
        )


@torch.no_grad()
def strengths(
    loop: Loop,
    *inputs: Any,
    values: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    value_range: Range = SIGNED,
    samples: int = 8,
    **named: Any,
) -> Any:
    """The same inputs at several strengths: a row a sample, a column a strength. ``inputs`` as of the loop."""
    columns = [
        pictures(loop.rollout(*inputs, strength=float(alpha), **named).output, value_range)[:samples]
        for alpha in values
    ]
    figure, panels = _panels(len(columns[0]), len(columns))
    for place, (alpha, column) in enumerate(zip(values, columns, strict=True)):
        for row, picture in enumerate(column):
            _show(panels[row][place], picture)
        panels[0][place].set_title(f"α = {alpha:g}", fontsize=9)
    return figure


def voxels(cubes: Any, threshold: float = 0.5, samples: int = 4, slices: int = 4) -> Any:
    """A row a cube: the view in three dimensions of what lies above the threshold, and slices along the first axis."""
    held = image_of(cubes).detach().float().cpu()[:samples, 0]
    if held.dim() != 4:
        raise SettingError(f"voxels wants cubes (N, C, X, Y, Z), not {tuple(image_of(cubes).shape)}.")
    Figure = figure_class()
    figure = Figure(figsize=(1.5 * slices + 2.6, 2.2 * len(held)), layout="constrained")
    for row, cube in enumerate(held):
        axes: Any = figure.add_subplot(len(held), slices + 1, row * (slices + 1) + 1, projection="3d")
        axes.voxels(cube.numpy() > threshold, shade=True)
        axes.set_axis_off()
        for place in range(slices):
            depth = (place + 1) * cube.shape[0] // (slices + 1)
            panel = figure.add_subplot(len(held), slices + 1, row * (slices + 1) + place + 2)
            panel.imshow(cube[depth].numpy(), cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
            panel.set_title(f"x = {depth}", fontsize=7)
    return figure


def animation(
    rollout: Rollout,
    path: str | os.PathLike[str],
    value_range: Range = SIGNED,
    samples: int = 8,
    seconds: float = 0.6,
    scale: int = 2,
) -> Path:
    """The steps one after the other, samples side by side, as a GIF or (imageio with ffmpeg) an MP4: by the path's end.

    Args:
        seconds: that each step is shown.
        scale: pixels of the picture per pixel of a sample.
    """
    frames = []
    for output in rollout.outputs[int(rollout.starts_from_zeros) :]:
        row = F.pad(pictures(output, value_range)[:samples], (1, 1, 1, 1), value=1.0)
        wide = torch.cat(list(row), 2).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        frames.append(wide.mul(255).round().byte().permute(1, 2, 0).numpy())
    target = Path(path)
    if target.suffix not in (".gif", ".mp4"):
        raise SettingError(f"animation({str(path)!r}): end the name in .gif or .mp4.")
    with whole(target) as part:
        if target.suffix == ".gif":
            from PIL import Image

            first, *rest = [Image.fromarray(frame) for frame in frames]
            first.save(part, format="GIF", save_all=True, append_images=rest, duration=int(1000 * seconds), loop=0)
        else:
            import imageio.v2 as imageio

            held = [frame for frame in frames for _ in range(max(1, round(seconds * 10)))]
            imageio.mimwrite(part, held, fps=10, macro_block_size=2)  # type: ignore[arg-type]
    return target


def save(figure: Any, path: str | os.PathLike[str], loop: Loop | None = None, **facts: Any) -> Path:
    """Write a figure, whole or not at all; a PNG says inside how it was made.

    Args:
        loop: its strength and steps are noted.
        facts: more to be noted, such as ``seed=0``; :func:`facts` reads them back.
    """
    target, kinds = Path(path), (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")
    if target.suffix.lower() not in kinds:
        raise SettingError(f"save(figure, {str(path)!r}): end the name in one of {', '.join(kinds)}.")
    noted = {**({"strength": loop.strength, "steps": loop.steps} if loop is not None else {}), **facts}
    kind = target.suffix.lower().removeprefix(".")
    with whole(target) as part:
        text = {f"fbwrap:{key}": str(value) for key, value in noted.items()} if kind == "png" else None
        figure.savefig(part, dpi=110, format=kind, metadata=text)
    return target


def facts(path: str | os.PathLike[str]) -> dict[str, str]:
    """What :func:`save` noted inside a PNG."""
    from PIL import Image

    with Image.open(path) as image:
        held = {str(key): str(value) for key, value in image.info.items()}
    return {key.removeprefix("fbwrap:"): value for key, value in held.items() if key.startswith("fbwrap:")}


class whole:  # noqa: N801 -- reads as one: with whole(path) as part
    """A file that is written beside its place and put there when it is done."""

    def __init__(self, target: Path):
        self._target = target

    def __enter__(self) -> Path:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(suffix=self._target.suffix, prefix=".fbwrap-", dir=self._target.parent)
        os.close(number)
        self._part = Path(name)
        self._part.chmod(0o644)
        return self._part

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            os.replace(self._part, self._target)
        else:
            self._part.unlink(missing_ok=True)


def figure_class() -> Any:
    """matplotlib's Figure.

    Raises:
        SettingError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError(f"Pictures need matplotlib: pip install 'fbwrap[plots]' ({error}).") from error
    return Figure


def _panels(rows: int, columns: int) -> tuple[Any, Any]:
    Figure = figure_class()
    figure = Figure(figsize=(1.3 * columns + 0.6, 1.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    return figure, panels


def _show(panel: Any, picture: Tensor) -> None:
    panel.imshow(picture.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
