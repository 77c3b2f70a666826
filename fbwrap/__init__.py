"""fbwrap: a discriminator corrects its generator at test time.

Example:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 8))
    >>> x = torch.randn(2, 3, 8, 8)
    >>> with fbwrap.attach(G, D, [("1", "1")], example=x) as loop:
    ...     loop(x).shape
    torch.Size([2, 3, 8, 8])
"""

from importlib import import_module
from types import ModuleType

from . import errors
from .attach import attach
from .errors import FbwrapError
from .head import from_pretrained
from .links import Link
from .loop import FeedbackLoop
from .modules import FeedbackModule
from .rollout import Rollout
from .table import LayerTable, layers

__version__ = "0.1.0.dev0"
__all__ = [
    "FbwrapError",
    "FeedbackLoop",
    "FeedbackModule",
    "LayerTable",
    "Link",
    "Rollout",
    "attach",
    "errors",
    "from_pretrained",
    "layers",
]


def __getattr__(name: str) -> ModuleType:
    """``fbwrap.recipes`` is imported when it is first asked for: the core does not need it."""
    if name == "recipes":
        return import_module("fbwrap.recipes")
    raise AttributeError(f"module 'fbwrap' has no attribute {name!r}")
