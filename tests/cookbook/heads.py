"""A head for scripts that only sample: with random weights, saved in ``head``."""

from conftest import stir

import fbwrap


def head_for(generator, discriminator, std=0.3, **options):
    """Write it."""
    loop = fbwrap.attach(generator, discriminator, **options)
    stir(loop, std).save_pretrained("head")
    loop.detach()
