"""A loop in somebody else's script: G itself runs it, and somebody's optimizer trains it.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> G, head = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> optimizer = torch.optim.Adam(G.parameters(), lr=1e-3)
    >>> frozen = retarget_optimizer(optimizer, G, head)
    >>> [p is q for p, q in zip(optimizer.param_groups[0]["params"], head.parameters(), strict=True)]
    [True, True]
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..engine.context import eager_while, is_bare, is_compiled, rolling_on
from ..engine.intercept import wrapped
from ..engine.locks import locked
from ..engine.names import modules_of, unwrap
from ..errors import SettingError, UnsupportedError
from .links import Connection


@dataclass(frozen=True)
class InstalledLoop:
    """A loop that is installed on a generator: its number, its place in the order of installing, and its links."""

    loop: int
    rank: float
    connections: Sequence[Connection]


_installed_loops: "weakref.WeakKeyDictionary[nn.Module, list[InstalledLoop]]" = weakref.WeakKeyDictionary()
_order = itertools.count(1)


@contextmanager
def replace_forward(
    generator: nn.Module,
    method: str,
    run: Callable[..., Any],
    inside: threading.local,
    hold: Callable[[], AbstractContextManager[None]],
    loop: int,
    connections: Sequence[Connection],
) -> Iterator[ExitStack]:
    """Within the block ``generator(x)`` is ``run(x)``, but for calls that ``run`` itself makes.

    Where other loops stand in already, ``run`` sees the generator with them: they act first, this one on top.

    Args:
        inside: during a run it has ``forward``, the original (hooks on G run around it all, once), and ``rank``.
        hold: the loop's locks; loop: its number; connections: its links.

    Yields:
        What ends it early when closed.

    Raises:
        UnsupportedError: the links cannot act together with those of another loop.
    """
    net = unwrap(generator)

    def around(forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        if is_bare(net) or any(mark.loop == loop or mark.rank <= installed.rank for mark in rolling_on(net)):
            return forward(*args, **kwargs)  # passes of this loop, of one that came before, or of one by itself
        with hold():  # now nobody installs or removes a loop
            if not any(each is installed for each in _installed_loops.get(net, ())):
                return getattr(net, method)(*args, **kwargs)  # somebody has removed this one
            inside.forward, inside.rank = forward, installed.rank
            try:
                return run(*args, **kwargs)
            finally:
                inside.forward = inside.rank = None

    with ExitStack() as stack:
        if generator is not net or any(map(is_compiled, modules_of(net))):
            stack.enter_context(eager_while())  # compiled code would not see the wrapper
        with locked(net):  # not in the midst of a rollout
            there = _installed_loops.setdefault(net, [])
            refuse_together(connections, [each for each in there if each.loop != loop])
            again = [each.rank for each in there if each.loop == loop]  # it keeps its place
            installed = InstalledLoop(loop, min(again, default=float(next(_order))), connections)
            entered = wrapped({net: around}, any_thread=True, method=method, rank=installed.rank)
            entered.__enter__()
            there.append(installed)
        stack.callback(_leave, net, installed, entered)
        yield stack


def _leave(net: nn.Module, installed: InstalledLoop, entered: AbstractContextManager[None]) -> None:
    with locked(net):
        if net in _installed_loops:  # a network that nobody holds any more takes its loops with it
            _installed_loops[net] = [each for each in _installed_loops[net] if each is not installed]
        entered.__exit__(None, None, None)


def others_within(net: nn.Module) -> list[InstalledLoop]:
    """Installed loops that act within each pass of the one that this thread runs innermost."""
    marks = rolling_on(net)
    running = [mark.loop for mark in marks]
    return [
        installed
        for installed in _installed_loops.get(net, ())
        if installed.rank < marks[-1].rank and installed.loop not in running
    ]


def refuse_together(connections: Sequence[Connection], others: Sequence[InstalledLoop]) -> None:
    """Refuse links that have no meaning where several loops act on one generator."""
    if not others:
        return
    for connection in [*connections, *(each for installed in others for each in installed.connections)]:
        if connection.carry or connection.feature_of == "previous":
            kind = "carried from step to step" if connection.carry else "of the previous pass"
            raise UnsupportedError(
                f"Two loops on one generator, and the link to {str(connection.target)!r} uses a feature that is "
                f"{kind}: with another loop inside each pass there is no such feature. Uninstall one of them, or "
                "attach one loop with all links."
            )
    mine, theirs = _inputs_of(connections), [_inputs_of(installed.connections) for installed in others]
    if any(mine & other for other in theirs):
        raise UnsupportedError(
            "Two loops correct the input of one layer of the same generator: which comes first would depend on the "
            "order of their passes. Uninstall one of them, or attach one loop with all links."
        )


def _inputs_of(connections: Sequence[Connection]) -> set[tuple[nn.Module, int]]:
    return {(c.site.module, c.site.call) for c in connections if c.at == "input"}


def retarget_optimizer(
    optimizer: torch.optim.Optimizer, generator: nn.Module, modules: nn.Module
) -> list[nn.Parameter]:
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
