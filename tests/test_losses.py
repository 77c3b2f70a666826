"""Losses by hand."""

import pytest
import torch
import torch.nn.functional as F
from fbwrap.recipes import Options, Perceptual
from fbwrap.recipes.training import losses as L
from torch import nn
from trained import images

from fbwrap.errors import TrainingError


def test_relativistic_loss_by_hand():
    real, fake = torch.tensor([1.0, 2.0, -0.5]), torch.tensor([0.3, -1.0, 0.8])
    ones, zeros = torch.ones(3), torch.zeros(3)
    bce = F.binary_cross_entropy_with_logits
    d = (bce(real - fake.mean(), ones) + bce(fake - real.mean(), zeros)) / 2
    g = (bce(fake - real.mean(), ones) + bce(real - fake.mean(), zeros)) / 2
    assert torch.allclose(L.LOSSES["relativistic"][0](real, fake), d)
    assert torch.allclose(L.LOSSES["relativistic"][1](fake, real), g)
    with pytest.raises(TrainingError, match="pass real="):
        L.LOSSES["relativistic"][1](fake)


def test_perceptual_loss_by_hand_and_its_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, 5, 3, stride=2))
    loss = Perceptual(net, ["0", "2"], [1.0, 0.5], (-1.0, 1.0), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    x, y = images(2).requires_grad_(), images(2, seed=1)

    def features(image):
        image = ((image + 1) / 2 - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
            1, 3, 1, 1
        )
        first = net[0](image)
        return first, net[2](first.relu())

    by_hand = sum(w * (a - b).abs().mean() for w, a, b in zip((1, 0.5), features(x), features(y), strict=True))
    value = loss(x, y)
    assert torch.allclose(value, by_hand)
    value.backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def test_content_loss_by_hand():
    x, y = images(3), images(3, seed=1)
    assert torch.allclose(L.content_loss(x, y, Options(reconstruction=2.0)), 2 * (x - y).abs().mean())
    both = Options(reconstruction=3.0, reconstruction_norm="l2", perceptual=0.5)
    other = nn.Module()
    other.forward = lambda a, b: (a - b).sum()
    assert torch.allclose(L.content_loss(x, y, both, other), 3 * ((x - y) ** 2).mean() + 0.5 * (x - y).sum())


def test_a_response_that_does_not_depend_on_the_sample_is_said():
    with pytest.raises(TrainingError, match="also set r1=0"):
        L.r1(lambda x: torch.zeros(2, 1, requires_grad=True) * 1, images(2))
