"""Which loss a D was trained with, where the user does not say.

Examples:
    >>> import torch
    >>> options_of({}, torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 1), torch.nn.Sigmoid()), 1).loss
    'bce'

A head that is trained against D with another loss makes samples worse: a Wasserstein critic's answers are no logits. So
there is no default. The adapter that knows D names its paper's loss; a D that ends in a sigmoid was trained with binary
cross-entropy; for any other the user is asked, before the first step.
"""

from collections.abc import Mapping

from torch import nn

from fbwrap.errors import SettingError
from fbwrap.recognition.trained_with import LOSSES, loss_of

from .options import Options, renamed

_MEMBERS = {
    "bce": "DCGAN, StyleGAN2",
    "hinge": "SN-GAN, BigGAN",
    "least_squares": "LSGAN, CycleGAN",
    "wasserstein_gp": "WGAN-GP",
    "relativistic": "ESRGAN",
}


def options_of(given: Mapping[str, object], G: nn.Module, D: nn.Module, critic_steps: int) -> Options:
    """The options of a recipe, with D's steps settled, and the loss where anything tells it.

    Args:
        given: as the user named them.
        critic_steps: D's steps where neither the user nor the loss says.

    Raises:
        SettingError: an option that does not exist.
    """
    given = renamed(given)
    options = Options.of(given)
    loss = options.loss or loss_of(G, D)
    usual = 5 if loss == "wasserstein_gp" else critic_steps
    return Options.of({**given, "loss": loss, "critic_steps": options.critic_steps or usual})


def check_loss(loss: str | None) -> None:
    """Ask for a loss that nothing tells.

    Raises:
        SettingError: there is none.
    """
    if loss is not None:
        return
    listed = ", ".join(f"{name!r} ({_MEMBERS[name]})" for name in LOSSES)
    raise SettingError(
        "fbwrap cannot find out which loss D was trained with, and a wrong loss makes samples worse. Pass "
        f"loss=, one of {listed}."
    )
