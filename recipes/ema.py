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
        pairs = list(zip(self.module.state_dict().values(), module.state_dict().values(), strict=True))
        means = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in means], [new for _, new in means], 1 - decay)  # one launch on a GPU
        for mine, new in pairs:
            if not mine.is_floating_point():  # a counter
                mine.copy_(new)
