"""The options of a training run, in one place.

Example:
    >>> Options(lr=2e-4).critic_lr
    0.0004
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from fbwrap.errors import SettingError

LOSS_NAMES = ("bce", "hinge", "least_squares", "wasserstein_gp", "relativistic")


@dataclass(frozen=True)
class Options:
    """How to train. Defaults are near those that worked on the pretrained MNIST pair (docs/results)."""

    loss: str = "bce"  #                     one of LOSSES; "wasserstein_gp" adds its penalty
    adversarial: float = 1.0  #              weight of the adversarial loss of what learns against D
    reconstruction: float = 0.0  #           weight of the distance to the target, with paired data
    reconstruction_norm: str = "l1"  #       "l1" or "l2"
    perceptual: float = 1.0  #               weight of the perceptual loss, with perceptual=
    judged: str = "all"  #                   outputs that the losses are of: "all" y_1 … y_T (FAL §4.3), or the "last"
    lr: float = 5e-4  #                      of what is trained: the head (AFL), the head and G (FAL), G (GAN)
    critic_lr: float = 4e-4  #               of D
    decay: str = "cosine"  #                 of both rates over the run: "cosine", "linear", "exponential" or "none"
    decay_to: float = 0.0  #                 the share of the rates that is left in the end
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam, for both
    batch: int = 64  #                       samples per step, real and fake each; of all processes together
    accumulate: int = 1  #                   parts of a batch, one after the other: memory for one, gradients of all
    #                                        (batch norm and the relativistic means are of a part)
    critic_steps: int = 1  #                 D's steps for each of the other's
    warmup: int = 0  #                       steps in which D learns alone, before the first
    train_critic: bool = True  #             False: D stays as it is
    critic_mode: str = "eval"  #             D's mode where it learns: "eval" (statistics stay) or "train"
    r1: float = 1.0  #                       weight of R1 on real samples, with "wasserstein_gp" too; 0: none
    r1_every: int = 8  #                     steps between R1's, its weight times as large (lazy R1)
    gradient_penalty: float = 10.0  #        weight of WGAN-GP's penalty, with "wasserstein_gp"
    ema: float = 0.995  #                    decay of the average that is kept in the end; 0: none
    critic_ema: float = 0.995  #             decay of the average of D that gives the feedback; 0: D itself; 1: D as
    #                                        it came, while a copy of it learns to judge
    recalibrate: int = 64  #                 batches from which norms' statistics are read anew in the end
    mixed_precision: str = "no"  #           "no", "fp16" or "bf16", as accelerate has it
    seed: int = 0  #                         of data order and torch's numbers: latents, modules' dropout
    workers: int = 0  #                      processes that read a dataset's items ahead; they change no number
    save_every: int = 500  #                 steps between checkpoints and (AFL, FAL) sample grids, with out=
    keep: int = 2  #                         checkpoints that are kept, the newest
    value_range: tuple[float, float] = (-1.0, 1.0)  # of a sample, for the grids

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Options by name; a name that is none is said."""
        known = [each.name for each in fields(cls)]
        if wrong := [name for name in given if name not in known]:
            near = difflib.get_close_matches(wrong[0], known, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise SettingError(f"There is no option {wrong[0]!r}.{hint} There are {', '.join(known)}.")
        return cls(**given)

    def __post_init__(self) -> None:
        choices = {
            "loss": LOSS_NAMES,
            "judged": ("all", "last"),
            "critic_mode": ("eval", "train"),
            "decay": ("cosine", "linear", "exponential", "none"),
            "reconstruction_norm": ("l1", "l2"),
            "mixed_precision": ("no", "fp16", "bf16"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise SettingError(f"{name}={getattr(self, name)!r} is not one of {', '.join(known)}.")
        for each in fields(self):
            object.__setattr__(self, each.name, _as_its_kind(each.name, getattr(self, each.name), each.default))
        for name in ("batch", "accumulate", "critic_steps", "r1_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}={getattr(self, name)}: pass 1 or more.")
        for name in ("adversarial", "reconstruction", "perceptual", "lr", "critic_lr", "warmup", "r1",
                     "gradient_penalty", "recalibrate", "workers"):  # fmt: skip
            if getattr(self, name) < 0:
                raise SettingError(f"{name}={getattr(self, name)}: pass 0 or more.")
        if not 0 <= self.decay_to <= 1 or (self.decay == "exponential" and not self.decay_to):
            raise SettingError(f"decay_to={self.decay_to}: pass 0 to 1; more than 0 with an exponential decay.")
        if self.batch % self.accumulate:
            raise SettingError(f"A batch of {self.batch} does not divide into accumulate={self.accumulate} parts.")
        if not 0 <= self.ema < 1:
            raise SettingError(f"ema={self.ema}: pass a decay from 0 (none) to below 1.")
        if not 0 <= self.critic_ema <= 1:
            raise SettingError(f"critic_ema={self.critic_ema}: pass a decay from 0 (D itself) to 1 (D as it came).")


def _as_its_kind(name: str, value: Any, default: Any) -> Any:
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
