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


class EMA:
    """A module's average over the steps; ``module`` holds it. A decay of 0 follows exactly.

    The decay ramps up, min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module = copied(module)
        self.decay, self.count = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step's weights and statistics in."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for mine, new in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)
