"""The small networks that benchmarks measure with, trained by the benchmarks themselves, once.

Example:
    >>> loss = lambda net: F.cross_entropy(net(x), y)                               # doctest: +SKIP
    >>> net = trained_once(Classifier, loss, Path("net.safetensors"), 1000)         # doctest: +SKIP
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def trained_once(make: Callable[[], Net], loss: Callable[[Net], Tensor], path: Path, steps: int) -> Net:
    """A network that descends ``loss(net)`` (a fresh random batch each time) for some steps, seed 0, in eval mode; from
    its file if that is there."""
    torch.manual_seed(0)
    net = make()
    if path.exists():
        load_model(net, path)
        return net.eval()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
        schedule.step()
    save_model(net, str(path))
    return net.eval()
