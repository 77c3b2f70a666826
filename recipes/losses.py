"""Adversarial losses and gradient penalties, as pure functions of D's responses.

Example:
    >>> import torch
    >>> critic_loss, generator_loss = LOSSES["hinge"]
    >>> float(critic_loss(torch.tensor([2.0]), torch.tensor([-2.0]))), float(generator_loss(torch.tensor([3.0])))
    (0.0, -3.0)

Responses are logits of any shape (a response map is averaged); real first, then fake.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

CriticLoss = Callable[[Tensor, Tensor], Tensor]
GeneratorLoss = Callable[[Tensor], Tensor]


def bce_critic(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(y) − log(1 − D(G(z))), D = sigmoid(response) (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def bce_generator(fake: Tensor) -> Tensor:
    """−log D(G(z)), the non-saturating form."""
    return F.softplus(-fake).mean()


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 − D(y)) + max(0, 1 + D(G(z))) (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−D(G(z))."""
    return -fake.mean()


def least_squares_critic(real: Tensor, fake: Tensor) -> Tensor:
    """(D(y) − 1)² + D(G(z))² (Mao et al. 2017)."""
    return ((real - 1) ** 2).mean() + (fake**2).mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """(D(G(z)) − 1)²."""
    return ((fake - 1) ** 2).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """D(G(z)) − D(y) (Arjovsky et al. 2017); wants :func:`gradient_penalty`."""
    return fake.mean() - real.mean()


LOSSES: Mapping[str, tuple[CriticLoss, GeneratorLoss]] = {
    "bce": (bce_critic, bce_generator),
    "hinge": (hinge_critic, hinge_generator),
    "least_squares": (least_squares_critic, least_squares_generator),
    "wasserstein_gp": (wasserstein_critic, hinge_generator),
}


def _squared_norm(response: Tensor, inputs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(response.sum(), inputs, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def r1(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½‖∇D(y)‖², mean over real samples (Mescheder et al. 2018). A response map is averaged per sample."""
    inputs = real.detach().requires_grad_()
    return 0.5 * _squared_norm(critic(inputs).flatten(1).mean(1), inputs).mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """(‖∇D(ŷ)‖ − 1)² at random points ŷ between real and fake (Gulrajani et al. 2017)."""
    between = torch.rand(len(real), *(1,) * (real.dim() - 1), device=real.device, dtype=real.dtype)
    inputs = (between * real + (1 - between) * fake).detach().requires_grad_()
    norm = (_squared_norm(critic(inputs).flatten(1).mean(1), inputs) + 1e-12).sqrt()
    return ((norm - 1) ** 2).mean()
