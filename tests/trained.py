"""Small loops to train, and data for them."""

import torch
from helpers import stir
from zoo import Deconv, Residual, patch

import fbwrap


def latents(n):
    return torch.randn(n, 6, 1, 1)


def images(n=24, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).tanh()


def fal_loop(steps=3, **options):
    torch.manual_seed(0)
    return fbwrap.attach(
        Residual(), patch(), ["body.1"], module="ast", steps=steps, example=torch.zeros(2, 3, 8, 8), **options
    )


def attached_twice(steps):
    torch.manual_seed(0)
    module = {"kind": "dual", "norm": "none"}
    return stir(fbwrap.attach(Deconv().eval(), patch(), ["main.5"], module=module, steps=steps, example=latents(2)))
