"""fbwrap: a discriminator corrects its generator at test time.

Examples:
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
from typing import Any

from . import errors, moved, plots
from .adapter import Adapter
from .attach import attach
from .engine.layer_table import LayerTable, layers
from .errors import FbwrapError
from .feedback.blocks import FeedbackModule
from .feedback.links import Link
from .feedback.rollout import Rollout
from .heads.listing import HeadInfo, list_heads
from .loop import FeedbackLoop
from .pretrained import from_pretrained, load_pretrained
from .recognition.detect import explain
from .several import Heads
from .version import __version__ as __version__
from .weights import load_weights

moved.install()
__all__ = [
    "Adapter",
    "FbwrapError",
    "FeedbackLoop",
    "FeedbackModule",
    "HeadInfo",
    "Heads",
    "LayerTable",
    "Link",
    "Rollout",
    "attach",
    "errors",
    "explain",
    "from_pretrained",
    "layers",
    "list_heads",
    "load_pretrained",
    "load_weights",
    "plots",
]


def __getattr__(name: str) -> Any:
    """What the core does not need is imported when first asked for: ``recipes``, ``adapters``, ``samplers``,
    ``calibrate``, ``fit``. Modules of the core are found under the paths that they had (:mod:`fbwrap.moved`)."""
    if name in ("recipes", "adapters") or name in moved.MOVED:
        return import_module(f"fbwrap.{name}")
    if name == "samplers":
        return import_module("fbwrap.samplers")
    if name == "calibrate":
        return import_module("fbwrap.samplers").calibrate
    if name == "fit":
        return import_module("fbwrap.recipes.fitting").fit
    raise AttributeError(f"module 'fbwrap' has no attribute {name!r}")
