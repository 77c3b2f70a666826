"""Layers by name: listing, globs, near matches, and the way into a layer's output.

Examples:
    >>> from torch import Tensor, nn
    >>> net = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    >>> match(net, "*"), str(parse("encoder.3#1[0]"))
    (['0', '1'], 'encoder.3#1[0]')

A layer reference is written ``NAME``, ``NAME#CALL`` (which call, when a module is called several
times in one forward pass, from 0) or ``NAME[KEY]`` (a path into an output that is a tuple, list or
dict), in this order. ``NAME:input`` is what the layer is given, in place of what it returns: so an
activation that no module holds has a name. ``*`` matches any run of characters within a name, ``?`` one.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import LayerNotFoundError

Path = tuple[int | str, ...]

_REFERENCE = re.compile(r"^(?P<name>[^\[\]#]*)(#(?P<call>\d+))?(?P<path>(\[[^\[\]]+\])*)$")
INPUT = ":input"
_WRAPPERS = ("_orig_mod", "module")


@dataclass(frozen=True)
class Ref:
    """One place in a model: a layer's name, which call of it, and the path into its output or its input."""

    name: str
    call: int | None = None
    path: Path = ()
    at: Literal["output", "input"] = "output"

    def __str__(self) -> str:
        call = "" if self.call is None else f"#{self.call}"
        at = "" if self.at == "output" else INPUT
        return self.name + call + "".join(f"[{key}]" for key in self.path) + at


def indexed(path: Path) -> str:
    """A path as it is written in Python: ``[0]['sample']``."""
    return "".join(f"[{key!r}]" for key in path)


def parse(text: str) -> Ref:
    """Read a layer reference such as ``"up.3"``, ``"act#2"``, ``"mid[0][sample]"`` or ``"conv:input"``."""
    found = _REFERENCE.match(text.removesuffix(INPUT))
    if found is None:
        raise LayerNotFoundError(
            f"{text!r} is not a layer reference. Write NAME, NAME#CALL, NAME[KEY] or NAME:input, for example "
            "'main.5', 'act#2', 'decoder.mid[0]' or 'conv4:input'."
        )
    keys = re.findall(r"\[([^\[\]]+)\]", found["path"] or "")
    path = tuple(int(key) if re.fullmatch(r"-?\d+", key) else key.strip("'\"") for key in keys)
    at: Literal["output", "input"] = "input" if text.endswith(INPUT) else "output"
    return Ref(found["name"], int(found["call"]) if found["call"] else None, path, at)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile wrappers."""
    while True:
        inner = None if is_scripted(model) else model._modules.get("_orig_mod")
        if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if inner is None:
            return model
        model = inner


def is_scripted(module: nn.Module) -> bool:
    """Whether a module is scripted or traced: a leaf, for its inside runs without Python."""
    return isinstance(module, torch.jit.ScriptModule)


def entry(model: nn.Module, method: str) -> Callable[..., Any]:
    """What runs a network: the module itself, or a method of it (a VAE's ``decode``)."""
    net = unwrap(model)
    return net if method == "forward" else getattr(net, method)


def without_forward(net: nn.Module, method: str) -> str | None:
    """A sentence on a network that has no ``forward``, with the methods that it may generate with; None where it has
    one, or another method was asked for."""
    unwrapped = type(unwrap(net))
    if method != "forward" or unwrapped.forward is not nn.Module.forward or "forward" in vars(unwrap(net)):
        return None
    own = [name for name, value in vars(unwrapped).items() if callable(value) and not name.startswith("_")]
    which = f", one of {', '.join(own[:6])}" if own else ""
    return f"{unwrapped.__name__} has no forward. Say the method that generates{which}:"


def names(model: nn.Module) -> dict[str, nn.Module]:
    """Every name of every submodule: shared modules under each of their names, the root left out.

    Names pass through torch.compile wrappers as if they were not there.
    """
    listed: dict[str, nn.Module] = {}
    for name, module in _walk(unwrap(model), ""):
        parts = [part for part in name.split(".") if part != "_orig_mod"]
        if parts and parts != [""] and not name.endswith("_orig_mod"):
            listed[".".join(parts)] = unwrap(module)
    return listed


def modules_of(net: nn.Module) -> list[nn.Module]:
    """Every module of a network once, itself first; of a scripted one not what is inside."""
    return list(dict.fromkeys(module for _, module in _walk(net, "")))


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    yield name, module
    if not is_scripted(module):
        for key, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{name}.{key}" if name else key)


def module_named(model: nn.Module, ref: Ref) -> nn.Module:
    """The module that a reference names."""
    return names(model)[ref.name]


def name_of(model: nn.Module, module: nn.Module) -> str:
    """The first name of ``module`` in ``model``."""
    wanted = unwrap(module)
    for name, candidate in names(model).items():
        if candidate is wanted:
            return name
    raise LayerNotFoundError(
        f"This {type(module).__name__} object is not a layer of {type(unwrap(model)).__name__}. "
        f"Pass one of its submodules, or a name: fbwrap.layers(model) lists them."
    )


def match(model: nn.Module, pattern: str) -> list[str]:
    """Names that ``pattern`` means: one exact name, or every name that a glob matches.

    Raises:
        LayerNotFoundError: nothing matches; the message offers near matches.
    """
    known = names(model)
    if inside := [name for name, module in known.items() if is_scripted(module) and pattern.startswith(f"{name}.")]:
        raise LayerNotFoundError(
            f"{pattern!r} stands inside {inside[0]!r}, which is a scripted or traced module: its layers run without "
            f"Python, and cannot be reached. Name {inside[0]!r} itself, or put the module that it was made of there."
        )
    for text in (pattern, _without_wrappers(pattern)):
        if found := glob_match(text, known):
            return found
    raise LayerNotFoundError(_unknown(pattern, model, known))


def glob_match(pattern: str, known: Iterable[str]) -> list[str]:
    """Of the names, the one that ``pattern`` is, or those that it matches; in their order."""
    rule = re.compile(_glob(pattern))
    listed = list(known)
    return [pattern] if pattern in listed else [name for name in listed if rule.fullmatch(name)]


def references(model: nn.Module, pattern: "str | nn.Module | Ref") -> list[Ref]:
    """References that a name, glob, reference or module object stands for."""
    if isinstance(pattern, nn.Module):
        return [Ref(name_of(model, pattern))]
    ref = pattern if isinstance(pattern, Ref) else parse(pattern)
    return [Ref(name, ref.call, ref.path, ref.at) for name in match(model, ref.name)]


def follow(value: Any, path: Path) -> Any:
    """The value at ``path`` inside nested tuples, lists, mappings and objects with attributes."""
    for key in path:
        if isinstance(value, Tensor):
            raise TypeError("there is a tensor, which has no parts")
        if isinstance(key, str) and not isinstance(value, Mapping) and hasattr(value, key):
            value = getattr(value, key)
        else:
            value = value[key]
    return value


def _glob(text: str) -> str:
    within = {"*": r"[^.]*", "?": r"[^.]"}
    return "".join(within.get(char, re.escape(char)) for char in text)


def _without_wrappers(text: str) -> str:
    return ".".join(part for part in text.split(".") if part not in _WRAPPERS)


def _unknown(pattern: str, model: nn.Module, known: dict[str, nn.Module]) -> str:
    kind = type(unwrap(model)).__name__
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    what = "No layer matches" if "*" in pattern or "?" in pattern else "There is no layer named"
    return f"{what} {pattern!r} in {kind}.{hint} fbwrap.layers(model, *example) lists all {len(known)} layers."
