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

from . import errors, plots
from .adapter import Adapter
from .attach import attach
from .errors import FbwrapError
from .hub import from_pretrained, load_pretrained
from .links import Link
from .loop import FeedbackLoop
from .modules import FeedbackModule
from .recognise import explain
from .rollout import Rollout
from .table import LayerTable, layers
from .weights import load_weights

__version__ = "0.1.0.dev0"
__all__ = [
    "Adapter",
    "FbwrapError",
    "FeedbackLoop",
    "FeedbackModule",
    "LayerTable",
    "Link",
    "Rollout",
    "attach",
    "errors",
    "explain",
    "from_pretrained",
    "layers",
    "load_pretrained",
    "load_weights",
    "plots",
]


def __getattr__(name: str) -> ModuleType:
    """``fbwrap.recipes`` and ``fbwrap.adapters`` are imported when first asked for: the core needs neither."""
    if name in ("recipes", "adapters"):
        return import_module(f"fbwrap.{name}")
    raise AttributeError(f"module 'fbwrap' has no attribute {name!r}")
