"""A loop in somebody else's script: G itself runs it, and somebody's optimizer trains it.

Example:
    >>> import torch
    >>> from torch import nn
    >>> G, head = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> optimizer = torch.optim.Adam(G.parameters(), lr=1e-3)
    >>> frozen = take_over(optimizer, G, head)
    >>> [p is q for p, q in zip(optimizer.param_groups[0]["params"], head.parameters(), strict=True)]
    [True, True]
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .errors import SettingError
from .naming import unwrap
from .surroundings import eager_while, is_compiled, is_rolling
from .tape import wrapped


@contextmanager
def standing_in(
    generator: nn.Module, method: str, run: Callable[..., Any], inside: threading.local
) -> Iterator[ExitStack]:
    """Within the block ``generator(x)`` is ``run(x)``, but for calls that ``run`` itself makes.

    Args:
        inside: where the original is found during a run, as ``inside.forward``: hooks on G run around it all, once.

    Yields:
        What ends it early when closed.
    """
    net = unwrap(generator)

    def around(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_rolling(net):  # this loop's own passes, or those of another loop on the same G
            return forward(*args, **kwargs)
        inside.forward = forward
        try:
            return run(*args, **kwargs)
        finally:
            inside.forward = None

    with ExitStack() as stack:
        if generator is not net or any(map(is_compiled, net.modules())):
            stack.enter_context(eager_while())  # compiled code would not see the wrapper
        stack.enter_context(wrapped({net: around}, any_thread=True, method=method))
        yield stack


def take_over(optimizer: torch.optim.Optimizer, generator: nn.Module, modules: nn.Module) -> list[nn.Parameter]:
    """Let an optimizer train ``modules`` in place of a generator, which is frozen; in the group that held it.

    Returns:
        The parameters that were frozen.

    Raises:
        SettingError: it holds nothing of the generator's, or is one that keeps a list of its own.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise SettingError("LBFGS keeps its own list of parameters. Make one of loop.parameters() instead.")
    base = {id(parameter): parameter for parameter in generator.parameters()}
    groups = [(group, [p for p in group["params"] if id(p) not in base]) for group in optimizer.param_groups]
    held = [group for group, others in groups if len(group["params"]) > len(others)]
    if not held:
        raise SettingError("This optimizer holds no parameter of the loop's generator. Pass G's optimizer.")
    for group, others in groups:
        group["params"] = others
        group.pop("param_names", None)
    held[0]["params"] += list(modules.parameters())
    frozen = [parameter for parameter in base.values() if parameter.requires_grad]
    for parameter in base.values():
        optimizer.state.pop(parameter, None)
        parameter.requires_grad_(False)
    return frozen
