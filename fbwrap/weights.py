"""Other people's weights, found inside whatever they are nested in.

Examples:
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from torch import nn
    >>> net = nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "net.pth"
    ...     torch.save({"epoch": 3, "params_ema": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)
    ...     load_weights(nn.Linear(2, 3), path)
    "params_ema", prefix "module."
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .engine.names import unwrap
from .engine.pytree import same_bits
from .errors import WeightsError, short
from .files.weights_file import read_weights

logger = logging.getLogger("fbwrap")

_AVERAGES = re.compile(r"(?<![a-z])(ema|emas|average|averaged|avg|smooth|running|shadow)(?![a-z])|EMA|Ema")
_WRAPPERS = ("module", "_orig_mod")
_COUNTER, _EXTRA = "num_batches_tracked", "_extra_state"  # old files lack counters; extra state is no tensor
State = Mapping[str, Any]


def is_average(key: str) -> bool:
    """Whether a key of a checkpoint is that of weights averaged over training: ``params_ema``, ``G_avg``."""
    return _AVERAGES.search(key) is not None


class Found(NamedTuple):
    """Where in a file a model's weights were: the keys to the dict, and the prefix of its names."""

    keys: tuple[str, ...]
    prefix: str

    def __repr__(self) -> str:
        where = "/".join(self.keys) or "top level"
        return f'"{where}"' + (f', prefix "{self.prefix}"' if self.prefix else "")

    @property
    def averaged(self) -> bool:
        """Whether these are an average of the weights over training."""
        return any(is_average(part) for part in (*self.keys, self.prefix))

    def is_called(self, key: str) -> bool:
        """Whether a user's ``key`` means this place."""
        return key in self.keys or key in ("/".join(self.keys), self.prefix, self.prefix.rstrip("."))


@dataclass
class _Fit:
    """A place in a file, and what of it is the model's, under the model's own names."""

    found: Found
    mine: dict[str, object]
    lacking: list[str]
    wrong: list[str]
    extra: list[str] = field(default_factory=list)
    exact: int = 0  # names that are the model's, letter by letter

    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        return not (self.lacking or self.wrong)


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], key: str | None = None, *, strict: bool = True
) -> Found:
    """Load a file's weights into ``model``, wherever in the file they are.

    Examples:
        >>> load_weights(netG, "checkpoint.pth")                     # doctest: +SKIP
        "netG", prefix "module."

    Names are found behind any prefix, with or without the names of wrappers (``module.``, ``_orig_mod.``) in them, and
    with weight norm of torch's older or newer kind. Of several places that fit, an average of the weights (``ema``,
    ``average``, ``smooth``, ``running``, ``shadow`` in its name) comes before the weights themselves.

    Args:
        model: any module; wrappers (DDP, torch.compile) are looked through.
        path: see :func:`~fbwrap.files.weights_file.read_weights`; ``"FILE#KEY"`` says the key too.
        key: which place is meant, where several fit: a key of the file, or a prefix of its names.
        strict: whether buffers may not be absent (parameters never may).

    Returns:
        Where they were.

    Raises:
        WeightsError: nothing in the file fits, or several places do that differ; the model is as it was.
    """
    net = unwrap(model)
    if absent := [name for name, tensor in net.state_dict().items() if isinstance(tensor, Tensor) and tensor.is_meta]:
        raise WeightsError(
            f"The model has no memory for weights: {absent[0]} is on the meta device. Call first "
            "model.to_empty(device='cpu')."
        )
    file = os.fspath(path)
    if key is None and "#" in file and not Path(file).exists():
        file, _, key = file.rpartition("#")
    held, wanted = read_weights(file), net.state_dict()
    buffers = {name for name, _ in net.named_buffers()}
    needed = [name for name in wanted if not name.endswith(_COUNTER) and (strict or name not in buffers)]
    every = [_fit(Found(keys, prefix), state, wanted, needed) for keys, state in _dicts(held)
             for prefix in _prefixes(state, wanted)]  # fmt: skip
    tried = [fit for fit in every if key is None or fit.found.is_called(key)]
    if not tried:
        what = f"under {key!r}" if key else "in it"
        known = ", ".join(dict.fromkeys(str(fit.found) for fit in every if fit.mine))
        raise WeightsError(f"{file} holds no weights {what}.{f' It holds {short(known, 200)}.' if known else ''}")
    fitting = sorted((fit for fit in tried if fit.fits), key=lambda fit: -fit.exact)
    if not fitting:
        nearest = min(tried, key=lambda fit: len(fit.lacking) + len(fit.wrong))
        raise WeightsError(_unfit(net, file, nearest, wanted, buffers))
    best = [fit for fit in fitting if fit.found.averaged] or fitting
    if others := [fit for fit in best[1:] if not _alike(best[0].mine, fit.mine)]:
        places = short("; ".join(str(each.found) for each in (best[0], *others)), 200)
        raise WeightsError(
            f"{file} holds several weights that fit, and they differ: {places}. Say which is meant: key=, or FILE#KEY, "
            f"such as {_key_of(others[-1].found)!r}."
        )
    net.load_state_dict({**{name: wanted[name] for name in wanted if name not in best[0].mine}, **best[0].mine})
    return best[0].found


def _fit(found: Found, state: State, wanted: State, needed: list[str]) -> _Fit:
    """What of a state dict is a model's."""
    names = {name.removeprefix(found.prefix): name for name in state if name.startswith(found.prefix)}
    canonical = {_canonical(name): name for name in names}
    mine: dict[str, object] = {}
    lacking, wrong, shapes = [], [], {}
    used = set()
    for name, value in wanted.items():
        key = name if name in names else canonical.get(_canonical(name))
        if key is None:
            lacking += [name] * (name in needed)
            continue
        used.add(key)
        theirs = state[names[key]]
        if name.endswith(_EXTRA) or (isinstance(theirs, Tensor) and _same_shape(theirs, value)):
            mine[name] = theirs
        else:
            wrong += [name] * (name in needed)
            shapes[name] = _shape(theirs)
    extra = [name for name in names if name not in used]
    return _Fit(found, mine, lacking, wrong, extra, len(used & wanted.keys()), shapes)


def _same_shape(theirs: Tensor, mine: object) -> bool:
    """As ``load_state_dict`` has it: a value without dimensions and one of one number are alike."""
    return isinstance(mine, Tensor) and (theirs.shape == mine.shape or (mine.dim() == 0 and theirs.shape == (1,)))


def _canonical(name: str) -> str:
    """A name without those of wrappers, its weight norm as torch's newer one says it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    for old, new in (("_g", "original0"), ("_v", "original1")):
        if len(parts[-1]) > 2 and parts[-1].endswith(old):
            parts[-1:] = ["parametrizations", parts[-1].removesuffix(old), new]
            break
    return ".".join(parts)


def _dicts(tree: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    """Every dict in a file that holds tensors by name."""
    if not isinstance(tree, Mapping) or len(keys) > 3:
        return
    state = {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and (isinstance(value, Tensor) or name.endswith(_EXTRA))
    }
    if any(isinstance(value, Tensor) for value in state.values()):
        yield keys, state
    for name, value in tree.items():
        if isinstance(name, str):
            yield from _dicts(value, (*keys, name))


def _prefixes(state: State, wanted: State) -> list[str]:
    """What may stand before the model's names in a file's: "", "module.", "netG." …; the shortest first."""
    first = next((name for name in wanted if not name.endswith((_COUNTER, _EXTRA))), "")
    canonical = _canonical(first)
    found = {""}
    for name in state:
        if name.endswith(f".{first}") and first:
            found.add(name.removesuffix(first))
        elif canonical and _canonical(name).endswith(f".{canonical}"):
            before = _canonical(name).removesuffix(canonical)
            parts = name.split(".")
            while parts and _canonical(".".join(parts)) != before.rstrip("."):
                parts.pop()  # the part of the name that is the prefix, as it stands in the file
            found.add(".".join(parts) + "." if parts else before)
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _alike(a: State, b: State) -> bool:
    tensors = [name for name in a if isinstance(a[name], Tensor)]
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in tensors)


def _key_of(found: Found) -> str:
    return found.prefix.rstrip(".") or "/".join(found.keys)


def _unfit(net: nn.Module, file: str, nearest: _Fit, wanted: State, buffers: set[str]) -> str:
    shapes = [f"{name} {nearest.shapes[name]} instead of {_shape(wanted[name])}" for name in nearest.wrong]
    parts = [("it lacks", nearest.lacking), ("has other shapes for", shapes), ("and holds", nearest.extra)]
    said = ", ".join(f"{what} {', '.join(names[:3])}{' …' * (len(names) > 3)}" for what, names in parts if names)
    hint = "Check the arguments with which the network is made."
    if not nearest.wrong and all(name in buffers for name in nearest.lacking):
        hint = "Only buffers are absent: strict=False loads the rest."
    where = f"{file} does not hold the weights of this {type(net).__name__} (nearest: {nearest.found})"
    return f"{where}: {short(said, 240)}. {hint}"


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
