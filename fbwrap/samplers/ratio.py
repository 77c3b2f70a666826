"""D's answer as a density ratio: log p_data(y) / p_G(y), as far as D's loss makes it one.

Examples:
    >>> import torch
    >>> ratio_of("bce")(torch.tensor([[0.5], [-1.0]]))
    tensor([ 0.5000, -1.0000])
    >>> ratio_of("least_squares")(torch.tensor([[0.5]]))
    tensor([0.])

=================== ==================== ==================================================
loss                the best D answers   log ratio
=================== ==================== ==================================================
``bce``, logits     log p / q            the answer itself
``bce``, a sigmoid  p / (p + q)          its logit
``least_squares``   p / (p + q)          its logit (real 1, generated 0)
``hinge``           the sign of p − q    none, until it is calibrated
``wasserstein_gp``  a potential          none, until it is calibrated
``relativistic``    how much more real   none, until it is calibrated
=================== ==================== ==================================================

p is the data's density, q the generator's. Answers of least squares below .01 and above .99, where nothing keeps them
from leaving the range, go on in a straight line. A response map is read place by place; its mean is the sample's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import SettingError
from ..feedback.loop import Loop
from ..recognition.trained_with import LOSSES, loss_of

Ratio = Callable[[Tensor], Tensor]
"""D's response (N, …) to log ratios (N,)."""

RATIOS = ("bce", "least_squares")
_WHY = {
    "hinge": "with the hinge loss, so its answer is not a density ratio, which this sampler needs",
    "wasserstein_gp": "with a Wasserstein loss, so its answer is not a density ratio, which this sampler needs",
    "relativistic": "with a relativistic loss, so it answers how much more real a sample is than another",
}


def _whole(response: Tensor) -> Tensor:
    """Half precision in full: near 0 and 1 it has no numbers left."""
    return response if response.dtype == torch.float64 else response.float()


def mean_of(values: Tensor) -> Tensor:
    """The mean over all places of each sample, (N,)."""
    return _whole(values).flatten(1).mean(1)


def _of_sigmoid(response: Tensor) -> Tensor:
    return mean_of(_whole(response).logit(1e-6))


def _of_line(response: Tensor) -> Tensor:
    """The logit of an answer that may lie beyond 0 and 1, as those of least squares do: a straight line beyond."""
    values, edge = _whole(response), 0.01
    inside = values.clamp(edge, 1 - edge)
    return mean_of(inside.logit() + (values - inside) / (edge * (1 - edge)))


def loss_behind(loop: Loop) -> str | None:
    """The loss that a loop's D was trained with: what its head says, else what the networks tell."""
    said = (loop.facts.trained_on.get("options") or {}).get("loss")
    if said in LOSSES:
        return str(said)
    return loss_of(loop.generator, loop.discriminator) if loop.discriminator is not None else None


def check_loss(loss: str | None) -> None:
    """
    Raises:
        SettingError: there is no such loss.
    """
    if loss is not None and loss not in LOSSES:
        raise SettingError(f"loss={loss!r}: pass one of {', '.join(map(repr, LOSSES))}: D was trained with it.")


def ratio_of(loss: str | None, *, sigmoid: bool = False) -> Ratio:
    """What makes a log ratio of the response of a D that was trained so.

    Args:
        sigmoid: whether D ends in one.

    Raises:
        SettingError: the loss makes D's answer no ratio, or nobody says which it is.
    """
    if loss is None:
        raise SettingError(
            "This sampler needs to know which loss D was trained with. Pass loss='bce' or 'least_squares' if "
            "it was one of these, else calibrate D. Measure the ratio: calibration=fbwrap.calibrate(loop, "
            "real_samples)."
        )
    if loss in _WHY:
        raise SettingError(
            f"D was trained {_WHY[loss]}. Measure the ratio: calibration=fbwrap.calibrate(loop, real_samples)."
        )
    if sigmoid:
        return _of_sigmoid
    return _of_line if loss == "least_squares" else mean_of
