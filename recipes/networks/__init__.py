"""The generators and discriminators that the papers trained from scratch, as plain modules.

Examples:
    >>> import torch
    >>> from fbwrap.recipes.networks import dcgan
    >>> dcgan.Generator(8, 4, 32)(torch.zeros(2, 8, 1, 1)).shape
    torch.Size([2, 3, 32, 32])

The papers name layers and sizes; where they leave something open, the file says what was chosen. Nothing here knows
of feedback: it is attached as to anybody's networks.
"""
