"""Every error the library raises.

Examples:
    >>> import fbwrap
    >>> issubclass(fbwrap.errors.LayerNotFoundError, (fbwrap.FbwrapError, LookupError))
    True

One base class, :class:`FbwrapError`; each error is also a subclass of the standard exception that a
caller would expect. Every message names the thing, says why, and what to do next.
"""


def short(text: object, most: int = 160) -> str:
    """Somebody else's text in a message: on one line, cut where it is long.

    Examples:
        >>> short("a\\nb" * 100, 10)
        'a ba ba ba…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most].rstrip()}…"


def extra(name: str) -> str:
    """How to install one of fbwrap's extras, for messages.

    Examples:
        >>> extra("ui")
        "install fbwrap with its extra 'ui' (in a checkout: pip install '.[ui]')"
    """
    return f"install fbwrap with its extra {name!r} (in a checkout: pip install '.[{name}]')"


class FbwrapError(Exception):
    """Base of every error that fbwrap raises."""


class LayerNotFoundError(FbwrapError, LookupError):
    """A layer name or glob matches nothing in the model."""


class LayerNotCalledError(FbwrapError, RuntimeError):
    """A layer exists, but the model's forward pass never calls it (or not as often as asked)."""


class PairingError(FbwrapError, ValueError):
    """A generator layer and a source cannot be connected."""


class ExampleError(FbwrapError, ValueError):
    """An example input is missing, or the generator refuses it."""


class CriticError(FbwrapError, RuntimeError):
    """The discriminator refuses its input, or answers with something unusable."""


class SettingError(FbwrapError, ValueError):
    """A setting (strength, steps, an option) has a value that makes no sense."""


class UnsupportedError(FbwrapError, RuntimeError):
    """What was asked cannot be done exactly, so it is not done at all."""


class DetachedError(FbwrapError, RuntimeError):
    """The loop was detached and can no longer run."""


class HeadError(FbwrapError, ValueError):
    """A saved head is missing, damaged, foreign, too new, or made for another model."""


class HubError(FbwrapError, OSError):
    """The Hugging Face Hub has no such repository, refuses, or cannot be reached."""


class WeightsError(FbwrapError, ValueError):
    """A weights file is missing, damaged, holds code, or belongs to another network."""


class DataError(FbwrapError, ValueError):
    """Training data is missing or cannot be read."""


class TrainingError(FbwrapError, RuntimeError):
    """Training cannot go on: a loss that is not finite, a checkpoint of another run."""
