"""Finding adapters: each is a plugin under the entry-point group ``fbwrap.adapters``, the project's own too.

Examples:
    >>> sorted(adapter.name for adapter in adapters())[:2]
    ['audio', 'biggan']

In ``setup.cfg`` of a package of one's own::

    [options.entry_points]
    fbwrap.adapters =
        mygan = mygan.feedback:ADAPTER
"""

import functools
import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from ..adapter import Adapter

logger = logging.getLogger("fbwrap")

GROUP = "fbwrap.adapters"


@functools.cache
def _loaded() -> tuple[tuple[Adapter, ...], dict[str, str]]:
    found: dict[str, Adapter] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.value.split(".")[0] != "fbwrap", point)):
        try:
            adapter = point.load()
        except Exception as error:  # noqa: BLE001 -- somebody else's code must not stop this one
            broken[point.name] = f"{type(error).__name__}: {error}"
            continue
        if not isinstance(adapter, Adapter):
            broken[point.name] = f"{point.value} is {type(adapter).__name__}, not a fbwrap.adapter.Adapter"
        elif adapter.name in found:
            broken[point.name] = f"there is an adapter named {adapter.name!r} already"
        else:
            found[adapter.name] = adapter
    for name, reason in broken.items():
        logger.warning("The adapter plugin %r is skipped: %s.", name, reason)
    return tuple(found.values()), broken


def adapters() -> tuple[Adapter, ...]:
    """Every adapter that is installed, the project's own first. Loaded when first asked for."""
    return _loaded()[0]


def broken() -> dict[str, str]:
    """Plugins that could not be loaded, and why."""
    return dict(_loaded()[1])


def forget() -> None:
    """Look for plugins anew (after one was installed in a running session)."""
    _loaded.cache_clear()


def ask(adapter: Adapter, what: str, function: Callable[..., object], *args: object) -> Any:
    """What an adapter's own function returns; None, with a warning, where it fails."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 -- likewise
        logger.warning(
            "The adapter %r recognised this network but failed to give its %s (%s: %s); it is skipped.",
            adapter.name,
            what,
            type(error).__name__,
            error,
        )
        return None
