"""What the interactive page shows, without the page: one setting of a loop to pictures, code and a head.

Examples:
    >>> studio = Studio(loop)                                                        # doctest: +SKIP
    >>> view = studio.view(Setting(seed=3, strength=0.5, steps=2))                   # doctest: +SKIP
    >>> view.base.shape, view.feedback.shape                                         # doctest: +SKIP
    ((256, 1024, 3), (256, 1024, 3))

Pictures are uint8 arrays (H, W, 3). A loop keeps its own strengths and steps.
"""

import math
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbwrap import plots
from fbwrap.engine.pytree import tensors
from fbwrap.errors import FbwrapError, HeadError, SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.feedback.latents import in_words
from fbwrap.files.pictures import is_picture
from fbwrap.heads.example import code_of_example, spec_of_example
from fbwrap.heads.inputs import draw_inputs, latents_are_assumed, takes_pictures, value_range_of
from fbwrap.loop import FeedbackLoop
from fbwrap.recipes.studies.samplers import SETTINGS
from fbwrap.samplers import SAMPLERS

from .inputs import from_bytes

MOST_CLASSES = 2000  # in a list to choose from
GALLERY = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_PIXELS = 1 << 20  # of an uploaded picture: a page on a CPU
SIDE = 256  # of the smaller samples on the page, at least
FULL_COLOUR = 0.25  # of the value range: the difference that has the full colour, the same in all settings


@dataclass(frozen=True)
class Setting:
    """What the page's controls say.

    Attributes:
        seed, label, samples: of the latents.
        strength, links: α of all, and of each link.
        steps: T.
        picture: G's input, uint8 (H, W, 3), if G takes pictures.
        reference: what D looks at in place of the sample, uint8 (H, W, 3); None: the sample.
        mask: where corrections may act, (H, W), zero: not there; None: everywhere.
    """

    seed: int = 0
    samples: int = 4
    label: int = 0
    strength: float = 1.0
    links: tuple[float, ...] = ()
    steps: int = 1
    picture: Any = field(default=None, repr=False, compare=False)
    reference: Any = field(default=None, repr=False, compare=False)
    mask: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class View:
    """Pictures of one setting; ``heat``: D's responses in the full red and in the full blue."""

    base: object
    feedback: object
    difference: object
    responses: list[tuple[Any, str]]
    heat: tuple[float, float]
    status: str


class Studio:
    """Views of one loop.

    Args:
        head: its name, for the code.
        span: what is black and white in samples; the head's own if not said.
    """

    def __init__(self, loop: FeedbackLoop, head: str = "head", span: tuple[float, float] | None = None):
        self.loop, self.head, self.span = loop, head, span or value_range_of(loop)
        args, kwargs = loop.facts.example
        self.takes_pictures = takes_pictures(args)
        self.takes_labels = any(not t.is_floating_point() and t.dim() for _, t in tensors((args, kwargs)))
        self.names = [connection.place for connection in loop.connections]
        self._lock = threading.Lock()
        self._exports = tempfile.TemporaryDirectory(prefix="fbwrap-")

    def about_latents(self) -> str:
        """How the page draws G's inputs, in words."""
        if self.takes_pictures:
            return ""
        if latents_are_assumed(self.loop):
            return "Latents: normal numbers, **an assumption**: the head does not say (fbwrap ui --latents …)."
        return f"Latents: {in_words(self.loop.latents or '')}."

    @property
    def full_colour(self) -> float:
        """The difference that is shown in the full colour, in G's units."""
        return FULL_COLOUR * (self.span[1] - self.span[0])

    def classes(self) -> list[tuple[str, int]]:
        """Names of the classes and their numbers, as far as the head knows them: from
        ``trained_on={"class_names": […]}``, or the numbers that its latents tell; else none."""
        if not self.takes_labels:
            return []
        names = self.loop.facts.trained_on.get("class_names")
        if isinstance(names, list) and names:
            return [(f"{number}: {name}", number) for number, name in enumerate(names)]
        ends = re.search(r"labels:(\d+):(\d+)", str(self.loop.latents))
        if ends is None or int(ends[2]) - int(ends[1]) > MOST_CLASSES:
            return []
        return [(str(number), number) for number in range(int(ends[1]), int(ends[2]) + 1)]

    def link_names(self) -> list[str]:
        """Each link in words: where from, where to, and how large."""
        named = []
        for connection in self.loop.connections:
            sources = ", ".join(source.name for source in connection.sources)
            sides = "x".join(map(str, connection.form.spatial))
            named.append(f"{connection.place} ← {sources}" + (f", {sides}" if sides else ""))
        return named

    def start(self) -> Setting:
        """The head's own setting."""
        alphas = [self.loop[i].strength for i in range(len(self.loop))]
        links = tuple(alpha if isinstance(alpha, float) else 1.0 for alpha in alphas)
        whole = self.loop.strength if isinstance(self.loop.strength, float) else 1.0
        return Setting(strength=whole, links=links, steps=self.loop.steps)

    @torch.no_grad()
    def view(self, setting: Setting) -> View:
        """The base, the sample with feedback, what changed, and D's response to each step.

        Raises:
            SettingError: a picture that cannot be; what to do is said.
        """
        started = time.monotonic()
        args, kwargs = self._inputs(setting)
        with self._lock:
            before = self._base(args, kwargs)
            rollout = self._rollout(setting, before, args, kwargs)
            responses, heat = self._responses(rollout)
        after = image_of(rollout.output)
        change = (plots.flat(after) - plots.flat(before)).mean(1, keepdim=True)
        most = float(change.abs().max())
        status = f"Largest difference: {most:.3g} · {time.monotonic() - started:.2f} s"
        coloured = (0.5 + 0.5 * change / self.full_colour).clamp(0, 1)
        return View(
            self._row(plots.pictures(before, self.span)), self._row(plots.pictures(after, self.span)),
            self._row(plots.coloured(coloured, plots.CHANGE)), responses, heat, status,
        )  # fmt: skip

    @torch.no_grad()
    def gallery(self, setting: Setting) -> list[tuple[Any, str]]:
        """The same latents over strengths of the whole head."""
        args, kwargs = self._inputs(setting)
        found = []
        with self._lock:
            before = self._base(args, kwargs)
            for alpha in GALLERY:
                made = self._rollout(replace(setting, strength=alpha), before, args, kwargs)
                found.append((self._row(plots.pictures(made.output, self.span)), f"α = {alpha:g}"))
        return found

    @torch.no_grad()
    def canvas(self, setting: Setting) -> Any:
        """The first base sample alone: what a mask is painted on."""
        args, kwargs = self._inputs(setting)
        with self._lock:
            before = self._base(args, kwargs)
        return self._row(plots.pictures(before, self.span)[:1])

    def samplers(self) -> list[str]:
        """Those that this loop can be asked for: without a latent only what moves layers or samples."""
        if self.loop.discriminator is None:
            return []
        return ["collaborative"] if self.takes_pictures else [name for name in SAMPLERS if name != "plain"]

    def sampled(self, name: str | None, setting: Setting) -> tuple[Any, str]:
        """What a sampler makes of the setting's inputs and strength, and what it cost and noted.

        Raises:
            SettingError: D's answer is no ratio, and this sampler needs one.
        """
        if not name:
            raise SettingError("Choose a sampler first." if self.samplers() else "This loop has no D to ask.")
        args, kwargs = self._inputs(setting)
        links: dict[str | int, Any] = dict(enumerate(setting.links[: len(self.names)]))
        with self._lock, self.loop.settings(strength=links, steps=setting.steps):
            self.loop.strength = setting.strength  # put back by settings
            sampler = SAMPLERS[name](self.loop, seed=setting.seed, **SETTINGS[name])
            made = sampler.refine(*args, **kwargs)
        notes = [f"{key}: {value:.3g}" for key, value in sampler.diagnostics.items()]
        cost = [f"{sampler.cost:.1f} calls of G a sample"] if sampler.cost is not None else []
        return self._row(plots.pictures(made, self.span)), " · ".join([*cost, *notes])

    def code(self, setting: Setting) -> str:
        """The setting as a program.

        Raises:
            SettingError: an input of G that cannot be written as code.
        """
        named, critic = self.loop.facts.base, self.loop.discriminator is not None
        needs_critic = critic and not self.loop.facts.critic_spec
        networks = "load_pretrained" if named else "from_pretrained"
        head = Path(self.head).name if Path(self.head).is_dir() else self.head  # no path of this machine
        given = [repr(head), *([] if named else ["G"]), *(["D"] if needs_critic else [])]
        lines = ["import torch, fbwrap", ""]
        if given[1:]:
            lines += [f"# {', '.join(given[1:])}: the networks of this head, their weights loaded"]
        lines += [f"loop = fbwrap.{networks}({', '.join(given)})", f"loop.strength, loop.steps = {setting.strength:g}, "
                  f"{setting.steps}"]  # fmt: skip
        lines += [f"loop[{i}].strength = {alpha:g}  # {name}"
                  for i, (name, alpha) in enumerate(zip(self.names, setting.links, strict=False))]  # fmt: skip
        more = ""
        if setting.reference is not None:
            more = ", reference=reference"
            lines += ["# reference: a picture of G's output's shape and range, which D looks at in place of the sample"]
        if setting.mask is not None:
            links = ", ".join(f"{i}: loop[{i}].strength * mask" for i in range(len(self.names)))
            more += f", strength={{{links}}}"
            lines += ["# mask: (1, 1, H, W), 1 where corrections may act"]
        if self.takes_pictures:
            inputs: str | None = "x"
            lines += ["# x: a picture (1, C, H, W)"]
        else:
            example = spec_of_example(self.loop.facts.example)
            many, label = max(1, int(setting.samples)), int(setting.label)
            inputs = code_of_example(example, many, "rng", label, self.loop.latents)
            lines += [f"rng = torch.Generator().manual_seed({int(setting.seed)})"]
        if inputs is None:
            raise SettingError("An input of this G cannot be written as code: its example holds more than tensors.")
        return "\n".join([*lines, f"y = loop.rollout({inputs}{more}).output" if more else f"y = loop({inputs})"])

    def export(self, setting: Setting) -> Path:
        """A head with these strengths and steps (a mask and a reference are no part of a head), as a zip file that
        lives as long as the studio; the loop's own settings stay.

        Raises:
            HeadError: it cannot be written.
        """
        links: dict[str | int, Any] = dict(enumerate(setting.links[: len(self.names)]))
        try:
            folder = Path(tempfile.mkdtemp(dir=self._exports.name))
            with self._lock, self.loop.settings(strength=links, steps=setting.steps):
                self.loop.strength = setting.strength  # put back by settings
                self.loop.save_pretrained(folder / "head")
            packed = shutil.make_archive(str(folder / "head"), "zip", folder / "head")
        except OSError as error:
            raise HeadError(f"The head cannot be exported: {error}") from error
        return Path(packed)

    # -- parts ------------------------------------------------------------------------------------------

    def _inputs(self, setting: Setting) -> tuple[tuple[object, ...], dict[str, object]]:
        if not self.takes_pictures:
            return draw_inputs(self.loop, max(1, int(setting.samples)), int(setting.seed), int(setting.label))
        if setting.picture is None:
            raise SettingError("This G makes pictures of pictures: upload one.")
        args, kwargs = self.loop.facts.example
        if len(args) > 1 or kwargs:
            raise SettingError("This G takes more than a picture: the page cannot make its other inputs.")
        like = args[0]
        return (self._pixels(setting.picture, like.shape[1]).to(like.dtype),), {}

    def _base(self, args: Any, kwargs: Any) -> Tensor:
        try:
            return image_of(self.loop.rollout(*args, steps=0, **kwargs).output)
        except FbwrapError:
            raise
        except (RuntimeError, ValueError) as error:
            raise SettingError(f"G refuses this input: {str(error).splitlines()[0]}") from error

    def _reference(self, setting: Setting, like: Tensor) -> object:
        if setting.reference is None:
            return None
        if not is_picture(like.shape):
            raise SettingError("A picture can be the reference only where G makes pictures.")
        seen = self._pixels(setting.reference, like.shape[1])
        seen = F.interpolate(seen, like.shape[2:], mode="bilinear", antialias=True)
        return seen.to(like).expand(len(like), -1, -1, -1)

    def _rollout(self, setting: Setting, before: Tensor, args: Any, kwargs: Any) -> Any:
        reference = self._reference(setting, before)
        with self.loop.settings(strength=setting.strength):
            return self.loop.rollout(
                *args, steps=setting.steps, strength=self._links(setting, before), reference=reference, **kwargs
            )

    def _links(self, setting: Setting, like: Tensor) -> dict[str | int, Any]:
        """Each link's strength, with the mask in it."""
        links = setting.links or (1.0,) * len(self.names)
        if setting.mask is None:
            return dict(enumerate(links))
        if like.dim() != 4:
            raise SettingError("A mask is for G's that make pictures.")
        mask = torch.from_numpy(np.asarray(setting.mask, dtype="float32") > 0).float()[None, None].to(like.device)
        return {i: alpha * mask for i, alpha in enumerate(links)}

    def _pixels(self, array: object, channels: int) -> Tensor:
        held = np.asarray(array)
        if held.shape[0] * held.shape[1] > MOST_PIXELS:
            raise SettingError(
                f"The picture has {held.shape[1]}x{held.shape[0]} pixels, more than the page takes ({MOST_PIXELS}). "
                "Make it smaller."
            )
        held = held[..., None].repeat(3, -1) if held.ndim == 2 else held
        return from_bytes(held, channels, self.span).to(next(iter(self.loop.generator.parameters())).device)

    def why_silent(self) -> str:
        """Why there is no response of D to show."""
        loop = self.loop
        if loop.discriminator is None:
            return "This head has no D: its modules look at the sample itself."
        if loop.facts.critic_in_part:
            return "This head has only the part of D that feedback needs, so D's response is not known."
        return loop.facts.unclear_response or "D does not answer for each sample."

    def _responses(self, rollout: Any) -> tuple[list[tuple[object, str]], tuple[float, float]]:
        """D's response over each step's sample; a number where D gives no map; nothing without a whole D. And the
        responses that are shown in the full colours."""
        answers = plots.answers_of(rollout)
        if not answers:
            return [], (0.0, 0.0)
        first = int(rollout.starts_from_zeros)
        layers, low, high = plots.with_heat(rollout.outputs[first:], answers[first:], self.span)
        found = []
        for t, (below, heat) in enumerate(layers, first):
            weight = 0.5 if plots.flat(answers[t]).shape[2:].numel() > 1 else 0.2  # a map, or a number: a tint
            tint = plots.coloured((heat - low) / ((high - low) or 1.0), plots.HEAT)
            shown = self._row((1 - weight) * below + weight * tint)
            found.append((shown, f"t = {t}: {float(answers[t].float().mean()):.3g}"))
        return found, (float(low), float(high))

    def _row(self, samples: Tensor) -> object:
        """Samples side by side as one picture, small ones enlarged."""
        scale = max(1, math.ceil(SIDE / max(samples.shape[2:]) / (1 if len(samples) < 3 else 2)))
        large = samples.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        large = F.pad(large, (4, 4, 4, 4), value=1.0) if len(samples) > 1 else large
        return torch.cat(list(large), 2).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
