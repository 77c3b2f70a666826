"""An exponential moving average of a module's weights.

Examples:
    >>> from torch import nn
    >>> net = nn.Linear(1, 1)
    >>> average = EMA(net, 0.9)
    >>> average.update(net)
"""

import copy

import torch
from torch import Tensor, nn

from fbwrap.engine.copies import detached_copy

from . import checkpoint
from .spectral import power_iterations


class EMA:
    """A module's average over the steps; ``module`` holds it. A decay of 0 follows exactly.

    The decay ramps up, min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten. Spectral norm's unit
    vectors are copied: a mean of them is shorter than one, and would leave the weights too large. So is what a layer
    keeps as extra state.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module = detached_copy(module)
        self.decay, self.count = decay, 0
        unit = {vector.data_ptr() for _, vectors in power_iterations(self.module) for vector in vectors}
        held = _tensors(self.module)
        once = {tensor.data_ptr(): i for i, tensor in enumerate(held)}  # tied weights
        self._means = [i for at, i in once.items() if held[i].is_floating_point() and at not in unit]
        self._copies = sorted(set(once.values()) - set(self._means))  # counters, unit vectors

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step's weights and statistics in."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        mine, theirs = _tensors(self.module), _tensors(module)
        torch._foreach_lerp_([mine[i] for i in self._means], [theirs[i] for i in self._means], 1 - decay)  # one launch
        for i in self._copies:
            mine[i].copy_(theirs[i])
        for one, other in zip(self.module.modules(), module.modules(), strict=True):
            if type(one).get_extra_state is not nn.Module.get_extra_state:
                one.set_extra_state(copy.deepcopy(other.get_extra_state()))


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's weights and statistics, without its layers' extra state, which is no tensor."""
    return [value for name, value in module.state_dict().items() if not checkpoint.is_extra(name)]
