"""An exponential moving average of a module's weights.

Example:
    >>> from torch import nn
    >>> net = nn.Linear(1, 1)
    >>> average = EMA(net, 0.9)
    >>> average.update(net)
"""

import torch
from torch import nn

from fbwrap.keeping import copied

from .spectral import power_iterations


class EMA:
    """A module's average over the steps; ``module`` holds it. A decay of 0 follows exactly.

    The decay ramps up, min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten. Spectral norm's unit
    vectors are copied: a mean of them is shorter than one, and would leave the weights too large.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module = copied(module)
        self.decay, self.count = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step's weights and statistics in."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        unit = {vector.data_ptr() for _, vectors in power_iterations(module) for vector in vectors}
        mine, new = self.module.state_dict().values(), module.state_dict().values()
        pairs = {here.data_ptr(): (here, there) for here, there in zip(mine, new, strict=True)}  # tied weights once
        means = []
        for here, there in pairs.values():
            if here.is_floating_point() and there.data_ptr() not in unit:
                means.append((here, there))
            else:  # a counter, or a unit vector
                here.copy_(there)
        torch._foreach_lerp_([here for here, _ in means], [there for _, there in means], 1 - decay)  # one launch
