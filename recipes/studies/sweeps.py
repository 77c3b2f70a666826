"""The papers' studies of a trained head, each one call: numbers as rows, CSV and a plot as the papers draw it.

Examples:
    >>> study = strength_sweep(loop, inputs, measure)                       # doctest: +SKIP
    >>> study.save("studies")           # studies/strength.csv and .png     # doctest: +SKIP

``inputs`` are positional inputs of G for as many samples as are to be measured (they are run in batches);
``measure(samples)`` returns named numbers, for example ``lambda y: space.distances(y, real)`` with a
:class:`~fbwrap.recipes.metrics.Space`. The base, where a study has it, is G without feedback on the same inputs.
"""

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap.engine.intercept import wrapped
from fbwrap.engine.pytree import batch_size, take_rows
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.files.atomic import atomic_write
from fbwrap.files.pictures import is_picture
from fbwrap.loop import FeedbackLoop
from fbwrap.plots import figure_class, save, unit

Measure = Callable[[Tensor], Mapping[str, float]]
Inputs = Tensor | tuple[Any, ...]
_SHOWN = 6  # samples of a setting in a picture


@dataclass(frozen=True)
class Study:
    """Rows of one study.

    Attributes:
        name: of the study and its files.
        axis: the column that the plot has along its axis.
        rows: settings and measured numbers.
        shown: some samples of each setting, by its name: pictures, or points (N, 2).
    """

    name: str
    axis: str
    rows: tuple[dict[str, Any], ...]
    shown: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def measured(self) -> list[str]:
        """Columns that hold measured numbers."""
        return [key for key, value in self.rows[-1].items() if isinstance(value, float) and key != self.axis]

    def save(self, folder: str | Path) -> Path:
        """Write ``NAME.csv`` and ``NAME.png``, and ``NAME_samples.png`` where it has samples that can be drawn."""
        target = Path(folder)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(target / f"{self.name}.csv") as part:
            part.write_bytes(table.getvalue().encode())
        save(self.plot(), target / f"{self.name}.png")
        if (figure := self.samples()) is not None:
            save(figure, target / f"{self.name}_samples.png")
        return target / f"{self.name}.csv"

    def samples(self) -> Any:
        """A matplotlib figure of the samples: pictures, a row a setting (AFL Fig. 8-10), or points (Fig. 4); None where
        they are neither."""
        held = [(name, y.float().nan_to_num()) for name, y in self.shown.items()]
        points = bool(held) and all(y.dim() == 2 and y.shape[1] == 2 for _, y in held)
        if not held or not (points or all(is_picture(y.shape) for _, y in held)):
            return None
        low, high = min(float(y.min()) for _, y in held), max(float(y.max()) for _, y in held)
        across, down = (len(held), 1) if points else (1, len(held))
        figure = figure_class()(figsize=(3 * across, 3) if points else (8, 1.5 * down), layout="constrained")
        for place, (name, y) in enumerate(held):
            axes = figure.add_subplot(down, across, place + 1)
            if points:
                axes.scatter(y[:, 0].numpy(), y[:, 1].numpy(), s=1)
                axes.set(xlim=(low, high), ylim=(low, high), title=name)
            else:
                row = torch.cat(list(unit(y, self._range(low, high))), 2).permute(1, 2, 0).squeeze(2).numpy()
                axes.imshow(row, cmap="gray", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.set_ylabel(name, rotation=0, ha="right", fontsize=8)
        return figure

    @staticmethod
    def _range(low: float, high: float) -> tuple[float, float]:
        """Black and white: [0, 1] or [-1, 1], whichever holds the samples; else their own."""
        for span in ((0.0, 1.0), (-1.0, 1.0)):
            if span[0] - 0.05 <= low and high <= span[1] + 0.05:
                return span
        return low, max(high, low + 1e-6)

    def plot(self) -> Any:
        """A matplotlib figure: each measured number over the axis; bars where that is text."""
        names = self.measured
        figure = figure_class()(figsize=(4 * len(names), 3.2), layout="constrained")
        for place, name in enumerate(names):
            axes = figure.add_subplot(1, len(names), place + 1)
            rows = [row for row in self.rows if name in row]
            if all(isinstance(row[self.axis], int | float) for row in rows):
                others = [key for key in rows[0] if key not in (self.axis, *names)]
                groups: dict[Any, list[dict[str, Any]]] = {}
                for row in rows:
                    groups.setdefault(tuple(row.get(key) for key in others), []).append(row)
                for group, mine in groups.items():
                    label = ", ".join(f"{key} {value}" for key, value in zip(others, group, strict=True))
                    axes.plot([r[self.axis] for r in mine], [r[name] for r in mine], marker="o", label=label or None)
                if others:
                    axes.legend(fontsize=7)
            else:
                axes.barh([str(row[self.axis]) for row in rows][::-1], [row[name] for row in rows][::-1])
            axes.set_xlabel(self.axis if all(isinstance(row[self.axis], int | float) for row in rows) else name)
            axes.set_title(name, fontsize=9)
        return figure

    def __str__(self) -> str:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        cells = [[_shown(row.get(column, "")) for column in columns] for row in self.rows]
        widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
        return "\n".join(
            "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) for line in [columns, *cells]
        )


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@torch.no_grad()
def generated(loop: FeedbackLoop, inputs: Inputs, batch: int = 100, **how: Any) -> list[Tensor]:
    """y_0 … y_T of all inputs, on the CPU; ``how`` as :meth:`FeedbackLoop.rollout` takes it."""
    reference = how.pop("reference", None)
    whole = inputs if isinstance(inputs, tuple) else (inputs,)

    def outputs(*given: Any) -> Sequence[Any]:
        return loop.rollout(*given[:-1], reference=given[-1], **how).outputs

    return in_batches(outputs, (*whole, reference), batch)


@torch.no_grad()
def in_batches(generate: Callable[..., Sequence[Any]], inputs: Inputs, batch: int = 100) -> list[Tensor]:
    """What ``generate(*inputs)`` gives (one output or several), of all inputs, on the CPU."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    many = batch_size(given)
    if not many:
        raise SettingError("The inputs hold no tensor with a sample a row: there is nothing to make samples of.")
    batches = -(-many // batch)  # of sizes that differ by one at most: none of a single sample at the end
    edges = [-(-many * i // batches) for i in range(batches + 1)]
    parts = [
        [image_of(y).cpu() for y in generate(*take_rows(given, begin, end, of=many))]
        for begin, end in itertools.pairwise(edges)
    ]
    return [torch.cat(step) for step in zip(*parts, strict=True)]


def first(inputs: Inputs, many: int) -> Inputs:
    """The first samples of the inputs."""
    first: Inputs = take_rows(inputs, 0, many, of=batch_size(inputs))
    return first


def _noise() -> Callable[[Tensor], Tensor]:
    """A source of standard normal numbers in a tensor's shape, drawn where the tensor is; its own, from one seed."""
    rng: dict[torch.device, torch.Generator] = {}

    def like(signal: Tensor) -> Tensor:
        if signal.device not in rng:
            rng[signal.device] = torch.Generator(signal.device).manual_seed(0)
        drawn = torch.randn(signal.shape, generator=rng[signal.device], device=signal.device)
        return drawn.to(signal)

    return like


def strength_sweep(
    loop: FeedbackLoop,
    inputs: Inputs,
    measure: Measure,
    strengths: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    steps: Sequence[int] = (1, 2, 3),
) -> Study:
    """AFL Fig. 6: quality over the test strength α, for several numbers of steps."""
    rows = []
    for alpha in strengths:
        outputs = generated(loop, inputs, steps=max(steps), strength=float(alpha))
        rows += [{"strength": float(alpha), "steps": str(t), **measure(outputs[t])} for t in steps]
    return Study("strength", "strength", tuple(rows))


def one_at_a_time(loop: FeedbackLoop, inputs: Inputs, measure: Measure) -> Study:
    """AFL Fig. 8: each feedback module alone, all, and none."""
    count = len(loop)

    shown: dict[str, Tensor] = {}

    def row(name: str, alphas: Mapping[str | int, float]) -> dict[str, Any]:
        y = generated(loop, inputs, strength=alphas)[-1]
        shown[name] = y[:_SHOWN]
        return {"modules": name, **measure(y)}

    rows = [row("none", dict.fromkeys(range(count), 0.0))]
    for chosen, connection in enumerate(loop.connections):
        alone = {i: loop[i].strength if i == chosen else 0.0 for i in range(count)}
        rows.append(row(f"{chosen}: {connection.target}", alone))  # type: ignore[arg-type]
    rows.append(row("all", {}))
    return Study("modules", "modules", tuple(rows), shown)


def controls(loop: FeedbackLoop, inputs: Inputs, measure: Measure) -> Study:
    """AFL's sanity checks: the same head on noise, on a constant, and on what D sees in another sample."""
    if batch_size(inputs) < 2:
        raise SettingError("With one sample there is no other one to feed: pass two or more.")
    rows = [{"signals": "no feedback", **measure(generated(loop, inputs, steps=0)[-1])}]
    rows.append({"signals": "what D sees", **measure(generated(loop, inputs)[-1])})
    for kind in ("another sample", "noise", "a constant"):
        with replaced_signals(loop, kind):
            rows.append({"signals": kind, **measure(generated(loop, inputs)[-1])})
    return Study("controls", "signals", tuple(rows))


def switching(
    loop: FeedbackLoop,
    inputs: Inputs,
    reference: Tensor,
    measure: Measure,
    strengths: Sequence[float] = (0.2, 0.5, 1.0),
) -> Study:
    """AFL Fig. 9-10: D looks at a reference image in place of the sample; how near samples come to it (root mean square
    of the difference), over the strength."""
    rows, shown = (
        [],
        {"reference": reference[:_SHOWN].cpu(), "no feedback": generated(loop, inputs, steps=0)[0][:_SHOWN]},
    )
    for alpha in strengths:
        for name, image in (("the sample", None), ("the reference", reference)):
            samples = generated(loop, inputs, reference=image, strength=float(alpha))[-1]
            apart = float((samples - reference.to(samples)).square().mean().sqrt())
            rows.append({"strength": float(alpha), "D looks at": name, "to the reference": apart, **measure(samples)})
            shown[f"{name}, α = {alpha:g}"] = samples[:_SHOWN]
    return Study("switching", "strength", tuple(rows), shown)


def latent_variance(
    loop: FeedbackLoop, latents: Inputs, measure: Measure, variances: Sequence[float] = (1.0, 2.0, 5.0)
) -> Study:
    """AFL Fig. 4b: latents of a larger variance than in training, without feedback and with."""
    if not isinstance(latents, Tensor):
        raise SettingError("This study scales G's latents: it needs G to take one tensor.")
    if wrong := [variance for variance in variances if not variance >= 0]:
        raise SettingError(f"A variance of {wrong[0]} cannot be: pass 0 or more.")
    rows, shown = [], {}
    for variance in variances:
        z = latents * variance**0.5
        for name, y in (("base", generated(loop, z, steps=0)[0]), ("feedback", generated(loop, z)[-1])):
            rows.append({"variance": float(variance), "model": name, **measure(y)})
            shown[f"{name}, x{variance:g}"] = y[: 1000 if y.dim() == 2 else _SHOWN]
    return Study("variance", "variance", tuple(rows), shown)


def more_steps(loop: FeedbackLoop, inputs: Inputs, measure: Measure, steps: int = 8) -> Study:
    """FAL §5.5: more steps than in training, and how D finds each (see :func:`fooling`)."""

    def both(*given: object) -> list[Any]:
        rollout = loop.rollout(*given, steps=steps)
        return [*rollout.outputs, *_means(rollout.responses)]

    found = in_batches(both, inputs)
    outputs, answers = found[: steps + 1], found[steps + 1 :]
    rows = _answer_rows(answers, loop)
    return Study("steps", "step", tuple({**row, **measure(outputs[row["step"]])} for row in rows))


@torch.no_grad()
def fooling(loop: FeedbackLoop, inputs: Inputs, steps: int = 3, batch: int = 100) -> Study:
    """FAL Fig. 7: how probable D finds it that y_t is real, step by step, and its mean response.

    The probability is the sigmoid of each sample's mean response, for a D that answers with logits (BCE; of a hinge's
    the order counts, not the number); of a head that was trained with least squares it is that mean itself (1 is real,
    FAL §5.5), and with Wasserstein or relativistic losses there is none.
    """

    found = in_batches(lambda *given: _means(loop.rollout(*given, steps=steps).responses), inputs, batch)
    return Study("fooling", "step", tuple(_answer_rows(found, loop)))


def first_step(loop: FeedbackLoop) -> int:
    """The first step that has a sample: y_0 of a loop that starts from zeros is none."""
    return 1 if loop.plan.first == "zeros" else 0


def _means(responses: Sequence[Tensor]) -> list[Tensor]:
    """Each sample's mean response, (N, 1), step by step."""
    return [response.flatten(1).mean(1, keepdim=True) for response in responses]


def _answer_rows(answers: Sequence[Tensor], loop: FeedbackLoop) -> list[dict[str, Any]]:
    """A row a step: how probable D finds it that the sample is real, where its loss makes that a probability."""
    loss = (loop.facts.trained_on.get("options") or {}).get("loss", "bce")
    means: dict[str, Callable[[Tensor], Tensor]] = {
        "bce": torch.sigmoid, "hinge": torch.sigmoid, "least_squares": lambda r: r.clamp(0, 1),
    }  # fmt: skip
    odds = means.get(loss)
    return [
        {"step": t, **({"probability": float(odds(v).mean())} if odds else {}), "response": float(v.mean())}
        for t, v in enumerate(answers)
        if t >= first_step(loop)
    ]


def _next_one(signal: Tensor, pack: int) -> Tensor:
    if len(signal) < 2:
        raise SettingError("A batch of one has no other sample to feed: run two or more at once.")
    return signal.roll(pack, 0)  # samples of one pack have one signal


@contextmanager
def replaced_signals(loop: FeedbackLoop, kind: str) -> Iterator[None]:
    """Within the block the modules get something else in place of what D sees: ``"another sample"`` (D's features of
    it), ``"noise"`` (of the features' mean and deviation), ``"a constant"`` (the features' mean), ``"zeros"``.

    A trained module expects features of that mean. To *train* modules without D take zeros (or attach with
    ``first="zeros"`` and one step, which never asks D): a convolution sees where a map of another constant ends, and on
    small maps that pattern drowns what else it is given.
    """
    noise = _noise()
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "another sample": lambda signal: _next_one(signal, loop.critic_call.pack),
        "noise": lambda signal: noise(signal) * signal.std(correction=0) + signal.mean(),
        "a constant": lambda signal: signal.mean().expand_as(signal),
        "zeros": torch.zeros_like,
    }
    if kind not in changes:
        raise SettingError(f"replaced_signals(loop, {kind!r}): pass one of {', '.join(map(repr, changes))}.")

    def around(forward: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, object]) -> Any:
        return forward(args[0], *(changes[kind](signal) for signal in args[1:]))

    with wrapped(dict.fromkeys(loop.feedback, around)):
        yield
