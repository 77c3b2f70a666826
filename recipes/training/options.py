"""The options of a training run, in one place.

Examples:
    >>> Options(lr=1e-4).critic_lr
    0.0002
"""

import difflib
import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from numbers import Real
from typing import Any

from fbwrap.errors import SettingError
from fbwrap.recognition.trained_with import LOSSES

RENAMED = {"judged": "loss_steps"}  # old names, which work until 0.2

_OPTIONAL = {
    "loss": "hinge",
    "critic_steps": 1,
    "decay_steps": 1,
    "warmup": 0,
    "value_range": (-1.0, 1.0),
}  # None: see there; else a value of this kind


@dataclass(frozen=True)
class Options:
    """How to train. Every recipe takes these by name: ``AFL(loop, loss="hinge", lr=1e-4)``.

    A *step* trains what plays against D once (the modules in AFL, the modules and G in FAL, G in GAN), after
    ``critic_steps`` steps of D. The optimizer is Adam. With the defaults none of the published pairs that we tried got
    worse (docs/results/defaults.md).

    Args:
        loss: the adversarial loss: ``"bce"``, ``"hinge"``, ``"least_squares"``, ``"wasserstein_gp"`` (with its gradient
            penalty) or ``"relativistic"``. Take the one that D was trained with. None: the one that D's adapter names,
            or ``"bce"`` for a D that ends in a sigmoid; otherwise the recipe raises an error that asks for it. (The
            output of a sigmoid is converted to a logit.)
        adversarial: weight of the adversarial loss for what plays against D, 0 or more. Lower it if
            ``reconstruction`` or a perceptual loss should dominate.
        reconstruction: weight of the distance to the target, 0 or more, for paired data.
        reconstruction_norm: this distance: ``"l1"``, or ``"l2"`` (mean of squares).
        perceptual: weight of the perceptual loss, 0 or more, if the recipe has ``perceptual=``.
        loss_steps: which outputs the losses use: ``"all"``, the mean over y_1 … y_T (FAL §4.3), or ``"last"``, only
            y_T. (``judged`` is its old name.)
        lr: learning rate of what plays against D. Lower it if samples get worse; raise it if nothing changes.
        critic_lr: learning rate of D. Raise it, or ``critic_steps``, if the other loss falls fast: D has to keep up.
        decay: how both rates fall over the run: ``"cosine"``, ``"linear"``, ``"exponential"`` or ``"none"``. Take
            ``"none"`` if you want to prolong the run later.
        decay_to: the share of the rates that is left at the end, 0 to 1.
        decay_steps: the number of steps over which the rates fall, 1 or more. None: the steps of the run. Set it if the
            run will be resumed with more steps.
        betas: Adam's two decay rates, for both optimizers.
        batch: samples in a step, so many real and so many generated, over all processes together.
        accumulate: number of parts that a batch is split into, to save memory. Gradients are summed over the parts.
            Batch norm, and the means of the relativistic loss, use one part at a time.
        critic_steps: steps of D for each step of the other, 1 or more. None: 5 with ``"wasserstein_gp"``; otherwise 2
            in AFL, and 1 elsewhere.
        warmup: steps at the beginning in which only D is trained, 0 or more. None: in AFL a fifth of the steps, 200 at
            most; elsewhere 0. A published D has often never seen samples of this G in eval mode.
        train_critic: False: D is not trained.
        critic_mode: D's mode while it is trained: ``"eval"`` (the statistics of batch norm do not change), or
            ``"train"``, for a new D.
        r1: weight of the R1 penalty, ½‖∇D‖² on real samples, 0 or more. Raise it if training diverges.
        r1_every: number of steps between two R1 penalties; the weight is multiplied by it (lazy R1).
        gradient_penalty: weight of WGAN-GP's penalty, with ``"wasserstein_gp"``.
        ema: decay per step of the moving average of what plays against D, 0 (no average) to below 1. The average is
            kept at the end.
        critic_ema: decay per step of the moving average of D that gives the feedback, 0 to 1. 0: D itself. 1: D as it
            was at the beginning, while a copy of it is trained to judge.
        recalibrate: number of batches from which the batch norms of the modules compute their statistics anew at the
            end, 0 or more.
        held_out: number of samples (real, and as many generated) on which the head is compared with the base during
            training, and by which its strength is chosen. 0: no comparison, and the strength stays. (AFL; see
            :mod:`fbwrap.recipes.training.watch`.)
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``, as in accelerate.
        seed: seed of the order of the data and of torch's random numbers.
        workers: number of processes that read a dataset ahead. It does not change any result.
        save_every: steps between two checkpoints, and in AFL and FAL between two pictures of samples; with ``out=``.
        keep: number of checkpoints that are kept.
        value_range: the lowest and highest value of a sample. Real data far outside of it is refused, and pictures are
            drawn with it. None: the adapter's; otherwise unknown (pictures: -1 to 1).
    """

    loss: str | None = None
    adversarial: float = 1.0
    reconstruction: float = 0.0
    reconstruction_norm: str = "l1"
    perceptual: float = 1.0
    loss_steps: str = "all"
    lr: float = 1e-4
    critic_lr: float = 2e-4
    decay: str = "cosine"
    decay_to: float = 0.0
    decay_steps: int | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    batch: int = 64
    accumulate: int = 1
    critic_steps: int | None = None
    warmup: int | None = None
    train_critic: bool = True
    critic_mode: str = "eval"
    r1: float = 1.0
    r1_every: int = 8
    gradient_penalty: float = 10.0
    ema: float = 0.995
    critic_ema: float = 0.995
    recalibrate: int = 64
    held_out: int = 1000
    mixed_precision: str = "no"
    seed: int = 0
    workers: int = 0
    save_every: int = 500
    keep: int = 2
    value_range: tuple[float, float] | None = None
    judged: InitVar[str | None] = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Options by name; a name that is none is said."""
        given = renamed(given)
        known = [each.name for each in fields(cls)]
        if wrong := [name for name in given if name not in known]:
            near = difflib.get_close_matches(wrong[0], known, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise SettingError(f"There is no option {wrong[0]!r}.{hint} There are {', '.join(known)}.")
        return cls(**given)

    def changed(self) -> str:
        """The options that are not the defaults, as they are passed: ``loss='hinge', lr=0.001``."""
        differ = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        return ", ".join(f"{name}={value!r}" for name, value in differ.items())

    def __post_init__(self, judged: str | None) -> None:
        if judged is not None:
            warnings.warn("The option judged is loss_steps now.", DeprecationWarning, stacklevel=3)
            if self.loss_steps not in ("all", judged):
                raise SettingError(
                    f"judged={judged!r}, loss_steps={self.loss_steps!r}: one option twice. Pass loss_steps."
                )
            object.__setattr__(self, "loss_steps", judged)
        choices = {
            "loss": LOSSES,
            "loss_steps": ("all", "last"),
            "critic_mode": ("eval", "train"),
            "decay": ("cosine", "linear", "exponential", "none"),
            "reconstruction_norm": ("l1", "l2"),
            "mixed_precision": ("no", "fp16", "bf16"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known and not (name == "loss" and self.loss is None):
                raise SettingError(f"{name}={getattr(self, name)!r} is not one of {', '.join(known)}.")
        for each in fields(self):
            object.__setattr__(self, each.name, self._of_its_kind(each.name, each.default))
        for name in ("batch", "accumulate", "critic_steps", "decay_steps", "r1_every", "save_every", "keep"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingError(f"{name}={getattr(self, name)}: pass 1 or more.")
        for name in ("adversarial", "reconstruction", "perceptual", "lr", "critic_lr", "warmup", "r1",
                     "gradient_penalty", "recalibrate", "workers", "held_out"):  # fmt: skip
            if (value := getattr(self, name)) is not None and value < 0:
                raise SettingError(f"{name}={getattr(self, name)}: pass 0 or more.")
        if not 0 <= self.decay_to <= 1 or (self.decay == "exponential" and not self.decay_to):
            raise SettingError(f"decay_to={self.decay_to}: pass 0 to 1; more than 0 with an exponential decay.")
        if self.batch % self.accumulate:
            raise SettingError(f"A batch of {self.batch} does not divide into accumulate={self.accumulate} parts.")
        if not 0 <= self.ema < 1:
            raise SettingError(f"ema={self.ema}: pass a decay from 0 (none) to below 1.")
        if not 0 <= self.critic_ema <= 1:
            raise SettingError(f"critic_ema={self.critic_ema}: pass a decay from 0 (D itself) to 1 (D as it came).")

    def _of_its_kind(self, name: str, default: object) -> object:
        value = getattr(self, name)
        return value if value is None and name in _OPTIONAL else _as_its_kind(name, value, _OPTIONAL.get(name, default))


def _as_its_kind(name: str, value: Any, default: Any) -> object:
    """A plain value of the default's kind: checkpoints and configs hold no NumPy numbers, and "false" is not true."""
    kind = type(default)
    if kind is tuple:
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(_as_its_kind(name, each, 0.0) for each in value)
        raise SettingError(f"{name}={value!r}: pass {len(default)} numbers, such as {default}.")
    if kind in (int, float):
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (kind is int and value != int(value)):
            raise SettingError(f"{name}={value!r}: pass a {'whole ' if kind is int else ''}number, such as {default}.")
        return kind(value)
    if not isinstance(value, kind):
        raise SettingError(f"{name}={value!r}: pass {'True or False' if kind is bool else 'text'}.")
    return value


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options under the names that they have now; an old one is said, once, to whoever wrote it."""
    found = dict(given)
    for old, new in RENAMED.items():
        if old in found:
            if new in found:
                raise SettingError(f"{old} and {new} are one option, by its old name and its new one. Pass {new}.")
            _warn(f"The option {old} is {new} now.")
            found[new] = found.pop(old)
    return found


def _warn(text: str) -> None:
    """Said of the first line that is not the library's."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fbwrap."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, DeprecationWarning, stacklevel=level - 1)
