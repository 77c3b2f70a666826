"""Which loss a D was trained with, as far as the networks tell.

Examples:
    >>> import torch
    >>> loss_of(torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 1), torch.nn.Sigmoid()))
    'bce'

The adapter that knows D names its paper's loss; a D that ends in a sigmoid was trained with binary cross-entropy.
"""

from torch import Tensor, nn

from ..engine.names import unwrap
from .detect import Recognised

LOSSES = ("bce", "hinge", "least_squares", "wasserstein_gp", "relativistic")
_VIEWS = ("View", "Reshape", "Squeeze", "Unsqueeze", "Alias", "Select", "Slice", "Expand", "Transpose", "Permute",
          "ToCopy", "Clone")  # fmt: skip


def loss_of(G: nn.Module, D: nn.Module) -> str | None:
    """The loss that D was trained with; None where nothing tells."""
    known = Recognised(unwrap(G), unwrap(D), "auto").loss
    if known in LOSSES:
        return known
    return "bce" if last_is_sigmoid(D) else None


def last_is_sigmoid(D: nn.Module) -> bool:
    """Whether D's last layer is a sigmoid."""
    layers = [each for each in unwrap(D).modules() if not list(each.children())]
    return bool(layers) and isinstance(layers[-1], nn.Sigmoid)


def ends_in_sigmoid(response: Tensor) -> bool:
    """Whether a response, which has a gradient, is a sigmoid's answer, perhaps in another shape."""
    node = response.grad_fn
    while node is not None and any(node.name().startswith(view) for view in _VIEWS) and node.next_functions:
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("SigmoidBackward")
