"""The options of a training run, in one place.

Example:
    >>> Options(lr=2e-4).critic_lr
    0.0004
"""

from dataclasses import dataclass

from fbwrap.errors import SettingError

from .losses import LOSSES


@dataclass(frozen=True)
class Options:
    """How to train. Defaults are those that worked best on the pretrained MNIST pair (docs/results)."""

    loss: str = "bce"  #                     one of LOSSES; "wasserstein_gp" adds its penalty
    lr: float = 1e-4  #                      of what is trained: the head (AFL), G (GAN)
    critic_lr: float = 4e-4  #               of D
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam, for both
    batch: int = 64  #                       samples per step, real and fake each
    critic_steps: int = 1  #                 D's steps for each of the other's
    warmup: int = 0  #                       steps in which D learns alone, before the first
    train_critic: bool = True  #             False: D stays as it is
    critic_mode: str = "eval"  #             D's mode where it learns: "eval" (statistics stay) or "train"
    r1: float = 1.0  #                       weight of R1 on real samples; 0: none
    gradient_penalty: float = 10.0  #        weight of WGAN-GP's penalty, with "wasserstein_gp"
    ema: float = 0.999  #                    decay of the average that is kept in the end; 0: none
    seed: int = 0  #                         of latents, data order and modules' dropout
    save_every: int = 500  #                 steps between checkpoints and sample grids, with out=
    value_range: tuple[float, float] = (-1.0, 1.0)  # of a sample, for the grids

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise SettingError(f"loss={self.loss!r} is not one of {', '.join(LOSSES)}.")
        if self.critic_mode not in ("eval", "train"):
            raise SettingError(f"critic_mode={self.critic_mode!r}: pass 'eval' or 'train'.")
        for name in ("batch", "critic_steps", "save_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}={getattr(self, name)}: pass 1 or more.")
        if not 0 <= self.ema < 1:
            raise SettingError(f"ema={self.ema}: pass a decay from 0 (none) to below 1.")
