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
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import CriticError, HeadError, SettingError, extra
from .feedback.critic import image_of
from .feedback.loop import Loop
from .feedback.rollout import Rollout
from .files.atomic import atomic_write
from .files.pictures import FIGURES, is_picture

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Range = tuple[float, float]
SIGNED: Range = (-1.0, 1.0)
HEAT = "coolwarm_r"  # red where D finds a sample fake
CHANGE = "RdBu_r"
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
    return sample if is_picture(sample.shape) else sample.mean(1, keepdim=True)


def pictures(output: object, value_range: Range = SIGNED) -> Tensor:
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


def steps(rollout: Rollout, value_range: Range = SIGNED, samples: int = 8) -> "Figure":
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


def grid(output: object, value_range: Range = SIGNED, samples: int = 16) -> "Figure":
    """Samples side by side, up to eight in a row."""
    shown = pictures(output, value_range)[:samples]
    across = min(8, len(shown))
    figure, panels = _panels(-(-len(shown) // across), across)
    for place, panel in enumerate(panels.flatten()):
        if place < len(shown):
            _show(panel, shown[place])
        else:
            panel.set_axis_off()
    return figure


def reliability(calibration: Any) -> "Figure":
    """The reliability diagram of what :func:`fbwrap.calibrate` returned: how often samples that D finds real with P are
    real; on the diagonal where P is right."""
    figure = figure_class()(figsize=(4, 3.6), layout="constrained")
    axes = figure.add_subplot(1, 1, 1)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot([p for p, *_ in calibration.curve], [share for _, share, _ in calibration.curve], marker="o")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="P(real), by D", ylabel="share of real samples")
    axes.set_title(f"{calibration.method}: AUC {calibration.auc:.2f}, error {calibration.error:.3f}", fontsize=9)
    return figure


def difference(before: object, after: object, value_range: Range = SIGNED, samples: int = 8) -> "Figure":
    """Rows: without feedback, with, and the difference (red: brighter, blue: darker, on one scale)."""
    a, b = (flat(image_of(each))[:samples] for each in (before, after))
    change = (b - a).mean(1)
    most = float(change.abs().max()) or 1.0
    figure, panels = _panels(3, len(a))
    for column in range(len(a)):
        _show(panels[0][column], pictures(a, value_range)[column])
        _show(panels[1][column], pictures(b, value_range)[column])
        shown = panels[2][column].imshow(change[column].numpy(), cmap=CHANGE, vmin=-most, vmax=most)
    for row, name in enumerate(("without", "with", "difference")):
        panels[row][0].set_ylabel(name, fontsize=8)
    figure.colorbar(shown, ax=[row[-1] for row in panels], shrink=0.6)
    return figure


def responses(rollout: Rollout, value_range: Range = SIGNED, samples: int = 4) -> "Figure":
    """A row a sample, a column a step, D's response map laid over it: red where D finds it fake (FAL Fig. 8).

    Raises:
        SettingError: D answers with one number a sample.
    """
    first = int(rollout.starts_from_zeros)
    return response_overlay(rollout.outputs[first:], rollout.responses[first:], value_range, samples, first)


def response_overlay(
    outputs: Sequence[object], answers: Sequence[Tensor], value_range: Range = SIGNED, samples: int = 4, first: int = 0
) -> "Figure":
    """As :func:`responses`, of outputs and responses one by one; ``first`` is the step of the first."""
    check_map(answers[0])
    layers, low, high = with_heat(outputs, [answer[:samples] for answer in answers], value_range)
    figure, panels = _panels(len(layers[0][0]), len(layers))
    for t, (below, heat) in enumerate(layers):
        for row, picture in enumerate(below):
            _show(panels[row][t], picture)
            shown = panels[row][t].imshow(heat[row, 0].numpy(), cmap=HEAT, vmin=low, vmax=high, alpha=0.5)
        panels[0][t].set_title(f"t = {first + t}", fontsize=9)
    figure.colorbar(shown, ax=panels.ravel().tolist(), label="D's response")
    return figure


def with_heat(
    outputs: Sequence[object], answers: Sequence[Tensor], value_range: Range
) -> tuple[list[tuple[Tensor, Tensor]], float, float]:
    """Each step's pictures, as many as there are answers, and D's response at their size, (N, 1, H, W); and the least
    and the largest response."""
    heats = [flat(answer).mean(1, keepdim=True) for answer in answers]
    low, high = min(float(h.min()) for h in heats), max(float(h.max()) for h in heats)
    below = [pictures(output, value_range)[: len(h)] for output, h in zip(outputs, heats, strict=True)]
    heats = [F.interpolate(h, b.shape[2:], mode="bilinear") for h, b in zip(heats, below, strict=True)]
    return list(zip(below, heats, strict=True)), low, high


def coloured(values: Tensor, colormap: str) -> Tensor:
    """(N, 1, H, W) in [0, 1] as colours (N, 3, H, W)."""
    import numpy as np
    from matplotlib import colormaps

    colours = torch.from_numpy(np.asarray(colormaps[colormap](values[:, 0].numpy())))[..., :3]
    return colours.permute(0, 3, 1, 2).float()


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
    *inputs: object,
    values: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    value_range: Range = SIGNED,
    samples: int = 8,
    **named: Any,
) -> "Figure":
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


def voxels(cubes: object, threshold: float = 0.5, samples: int = 4, slices: int = 4) -> "Figure":
    """A row a cube: the view in three dimensions of what lies above the threshold, and slices along the first axis."""
    held = image_of(cubes).detach().float().cpu()[:samples, 0]
    if held.dim() != 4:
        raise SettingError(f"voxels needs cubes (N, C, X, Y, Z), not {tuple(image_of(cubes).shape)}.")
    figure = figure_class()(figsize=(1.5 * slices + 2.6, 2.2 * len(held)), layout="constrained")
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    for row, cube in enumerate(held):
        axes: Any = figure.add_subplot(len(held), slices + 1, row * (slices + 1) + 1, projection="3d")
        faces = _surface(cube > threshold).numpy()
        if len(faces):  # matplotlib's own ``voxels`` takes many times as long
            axes.add_collection3d(Poly3DCollection(faces, facecolors="tab:blue", shade=True))
        axes.set(**{f"{name}lim": (0, size) for name, size in zip("xyz", cube.shape, strict=True)})
        axes.set_axis_off()
        for place in range(slices):
            depth = (place + 1) * cube.shape[0] // (slices + 1)
            panel = figure.add_subplot(len(held), slices + 1, row * (slices + 1) + place + 2)
            panel.imshow(cube[depth].numpy(), cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
            panel.set_title(f"x = {depth}", fontsize=7)
    return figure


def _surface(filled: Tensor) -> Tensor:
    """The outer faces of voxels (X, Y, Z) of true and false: (faces, 4 corners, 3 coordinates).

    Examples:
        >>> _surface(torch.ones(1, 1, 2, dtype=torch.bool)).shape           # two cubes that share a face
        torch.Size([10, 4, 3])
    """
    faces = []
    padded = F.pad(filled.to(torch.uint8), (1, 1) * 3).bool()
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        corners = torch.zeros(4, 3)
        corners[[1, 2], one], corners[[2, 3], other] = 1.0, 1.0
        for side in (0, 1):
            bare = padded & ~padded.roll(1 if side == 0 else -1, axis)
            at = bare[1:-1, 1:-1, 1:-1].nonzero().float()
            at[:, axis] += side
            order = corners if side else corners.flip(0)  # counter-clockwise, seen from outside
            faces.append(at[:, None] + order)
    return torch.cat(faces)


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
    with atomic_write(target) as part:
        if target.suffix == ".gif":
            from PIL import Image

            first, *rest = [Image.fromarray(frame) for frame in frames]
            first.save(part, format="GIF", save_all=True, append_images=rest, duration=int(1000 * seconds), loop=0)
        else:
            import imageio.v2 as imageio

            held = [frame for frame in frames for _ in range(max(1, round(seconds * 10)))]
            imageio.mimwrite(part, held, fps=10, macro_block_size=2)  # type: ignore[arg-type]
    return target


def save(figure: "Figure", path: str | os.PathLike[str], loop: Loop | None = None, **facts: object) -> Path:
    """Write a figure, whole or not at all; a PNG says inside how it was made.

    Args:
        loop: its strength and steps are noted.
        facts: more to be noted, such as ``seed=0``; :func:`facts` reads them back.
    """
    target = Path(path)
    if target.suffix.lower() not in FIGURES:
        raise SettingError(f"save(figure, {str(path)!r}): end the name in one of {', '.join(FIGURES)}.")
    noted = {**({"strength": loop.strength, "steps": loop.steps} if loop is not None else {}), **facts}
    kind = target.suffix.lower().removeprefix(".")
    with atomic_write(target) as part:
        text = {f"fbwrap:{key}": str(value) for key, value in noted.items()} if kind == "png" else None
        figure.savefig(part, dpi=110, format=kind, metadata=text)
    return target


def facts(path: str | os.PathLike[str]) -> dict[str, str]:
    """What :func:`save` noted inside a PNG."""
    from PIL import Image

    with Image.open(path) as image:
        held = {str(key): str(value) for key, value in image.info.items()}
    return {key.removeprefix("fbwrap:"): value for key, value in held.items() if key.startswith("fbwrap:")}


def figure_class() -> "type[Figure]":
    """matplotlib's Figure.

    Raises:
        SettingError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError(f"Pictures need matplotlib: {extra('plots')} ({error}).") from error
    return Figure


def _panels(rows: int, columns: int) -> "tuple[Figure, np.ndarray]":
    figure = figure_class()(figsize=(1.3 * columns + 0.6, 1.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    return figure, panels


def _show(panel: "Axes", picture: Tensor) -> None:
    panel.imshow(picture.permute(1, 2, 0).numpy(), vmin=0, vmax=1)


def __getattr__(name: str) -> object:
    """``whole`` is :func:`fbwrap.files.atomic.atomic_write` now; the old name works until 0.2."""
    if name != "whole":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.whole is fbwrap.files.atomic.atomic_write now.", DeprecationWarning, stacklevel=2)
    return atomic_write
