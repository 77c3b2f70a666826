"""Adversarial losses and gradient penalties, as pure functions of D's responses; losses on content.

Examples:
    >>> import torch
    >>> critic_loss, generator_loss = LOSSES["hinge"]
    >>> float(critic_loss(torch.tensor([2.0]), torch.tensor([-2.0]))), float(generator_loss(torch.tensor([3.0])))
    (0.0, -3.0)

Responses are logits of any shape (a response map is averaged); of D's losses real first, then fake; of G's fake
first, then real, which only the relativistic one looks at.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbwrap.engine.intercept import Tap, read
from fbwrap.engine.names import module_named, references
from fbwrap.errors import SettingError, TrainingError

from .options import Options

CriticLoss = Callable[[Tensor, Tensor], Tensor]
GeneratorLoss = Callable[..., Tensor]


def bce_critic(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(y) − log(1 − D(G(z))), D = sigmoid(response) (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def bce_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """−log D(G(z)), the non-saturating form."""
    return F.softplus(-fake).mean()


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 − D(y)) + max(0, 1 + D(G(z))) (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """−D(G(z))."""
    return -fake.mean()


def least_squares_critic(real: Tensor, fake: Tensor) -> Tensor:
    """(D(y) − 1)² + D(G(z))² (Mao et al. 2017)."""
    return ((real - 1) ** 2).mean() + (fake**2).mean()


def least_squares_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """(D(G(z)) − 1)²."""
    return ((fake - 1) ** 2).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """D(G(z)) − D(y) (Arjovsky et al. 2017); wants :func:`gradient_penalty`."""
    return fake.mean() - real.mean()


def relativistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """½ [softplus(−(D(y) − E D(ŷ))) + softplus(D(ŷ) − E D(y))]: real is more real than fake on average
    (Jolicoeur-Martineau 2019, RaGAN; ESRGAN Eq. 1)."""
    return (F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()) / 2


def relativistic_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """The same with the roles exchanged (ESRGAN Eq. 2)."""
    if real is None:
        raise TrainingError("The relativistic loss compares with D's response to real data: pass real=.")
    return relativistic_critic(fake, real)


LOSSES: Mapping[str, tuple[CriticLoss, GeneratorLoss]] = {
    "bce": (bce_critic, bce_generator),
    "hinge": (hinge_critic, hinge_generator),
    "least_squares": (least_squares_critic, least_squares_generator),
    "wasserstein_gp": (wasserstein_critic, hinge_generator),
    "relativistic": (relativistic_critic, relativistic_generator),
}


def loss_named(name: str | None) -> tuple[CriticLoss, GeneratorLoss]:
    """D's loss and the other's.

    Raises:
        SettingError: no name, or one that is none.
    """
    if name is None or name not in LOSSES:
        raise SettingError(
            f"loss={name!r}: pass the one that D was trained with, Options(loss=…): {', '.join(LOSSES)}."
        )
    return LOSSES[name]


def _squared_norm(response: Tensor, inputs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(response.sum(), inputs, create_graph=True, allow_unused=True)
    if gradient is None:
        raise TrainingError(
            "D's response does not depend on D's first input, so R1 and WGAN-GP have no gradient to penalise. "
            "Pass response= at attach if another output of D is the response. For R1 you can also set r1=0."
        )
    return gradient.flatten(1).square().sum(1)


def r1(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½‖∇D(y)‖², mean over real samples (Mescheder et al. 2018). A response map is averaged per sample."""
    inputs = real.detach().requires_grad_()
    return 0.5 * _squared_norm(critic(inputs).flatten(1).mean(1), inputs).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, between: Tensor | None = None
) -> Tensor:
    """(‖∇D(ŷ)‖ − 1)² at points ŷ between real and fake, random or as ``between`` (one value per sample, 1 is
    real) says (Gulrajani et al. 2017)."""
    drawn = torch.rand(len(real), device=real.device) if between is None else between
    between = drawn.to(real).view(-1, *(1,) * (real.dim() - 1))
    inputs = (between * real + (1 - between) * fake).detach().requires_grad_()
    norm = (_squared_norm(critic(inputs).flatten(1).mean(1), inputs) + 1e-12).sqrt()
    return ((norm - 1) ** 2).mean()


# -- content ------------------------------------------------------------------------------------------


class Perceptual(nn.Module):
    """Distance of two images in a network's features (Johnson et al. 2016): mean L1 over the layers named.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        >>> x = torch.rand(2, 3, 16, 16)
        >>> float(Perceptual(net, ["2"])(x, x))
        0.0

    Args:
        net: any backbone (torchvision's VGG, timm's); frozen, in eval mode.
        layers: names of layers, as :func:`fbwrap.attach` takes them.
        weights: one per layer; None: all 1.
        value_range: of the images.
        mean, std: of the images that the net was trained on, after they are brought to [0, 1]; None: as they are.
    """

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        weights: Sequence[float] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        refs = [ref for layer in layers for ref in references(net, layer)]
        self._taps = [Tap(module_named(net, ref), ref.call or 0, ref.path, ref.at) for ref in refs]
        self._weights = list(weights) if weights is not None else [1.0] * len(refs)
        self._low, self._span = value_range[0], value_range[1] - value_range[0]
        self._mean, self._std = mean, std

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance, a scalar."""
        made, wanted = self.features(output), [f.detach() for f in self.features(target)]
        parts = [w * F.l1_loss(a, b) for w, a, b in zip(self._weights, made, wanted, strict=True)]
        return torch.stack(parts).sum()

    def features(self, image: Tensor) -> list[Tensor]:
        """The features of the layers named."""
        image = (image - self._low) / self._span
        if self._mean is not None and self._std is not None:
            shape = (1, -1, *(1,) * (image.dim() - 2))
            image = (image - image.new_tensor(self._mean).view(shape)) / image.new_tensor(self._std).view(shape)
        found, _ = read(lambda: self.net(image), self._taps, stop=True)
        return [found[tap] for tap in self._taps]


def content_loss(output: Tensor, target: Tensor, options: Options, perceptual: nn.Module | None = None) -> Tensor:
    """The reconstruction loss, and the perceptual one, each times its weight."""
    if output.shape != target.shape:
        raise TrainingError(
            f"G makes {tuple(output.shape)} and the target is {tuple(target.shape)}: they must be alike."
        )
    norm = {"l1": F.l1_loss, "l2": F.mse_loss}[options.reconstruction_norm]
    loss = options.reconstruction * norm(output, target)
    if perceptual is not None and options.perceptual:
        loss = loss + options.perceptual * perceptual(output, target)
    return loss
