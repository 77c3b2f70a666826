"""Models named on the command line: ``package.module:Class(100, ngf=64)``, ``file.py:Class()``, ``spandrel:x4.pth``.

Examples:
    >>> type(load_model("torch.nn:Linear(2, 3)")).__name__
    'Linear'

Only what the user names is imported; arguments are literals. What is called is a class of networks (or a class method
of one), or a function of the user's own code or of a package of networks: ``shutil:rmtree('…')`` does not run.
"""

import functools
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fbwrap.engine.fingerprint import fingerprint
from fbwrap.errors import SettingError, short
from fbwrap.plots import unit
from fbwrap.recognition.named import load_generator
from fbwrap.recognition.spec import parse_call
from fbwrap.weights import load_weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation
PACKAGES = ("torchvision", "timm", "monai", "diffusers", "basicsr", "fbwrap")  # whose functions make networks
LOADED = ("spandrel:", "diffusers:")  # what is read from a file, or from the Hub
_SPEC = re.compile(r"(?P<where>(?:[A-Za-z]:[\\/])?[^:]+):(?P<call>.*)", re.DOTALL)  # C:\nets.py:G too


def load_model(spec: str, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """The model that ``spec`` names, in eval mode, with the weights of a file.

    Raises:
        SettingError: no such module, class or arguments.
        WeightsError: the file does not fit.
    """
    found_spec = _SPEC.fullmatch(spec)
    if found_spec is None:
        raise SettingError(f"{spec!r} names no model. Write package.module:Class(args), file.py:Class(args), or "
                           "spandrel:FILE for a super-resolution checkpoint.")  # fmt: skip
    where, call = found_spec["where"], found_spec["call"]
    if spec.startswith(LOADED):
        model, _ = load_generator(spec)
    else:
        name, positional, named = parse_call(call)
        found: Any = _imported(where)
        for part in name.split("."):
            if not hasattr(found, part):
                known = [key for key, value in vars(found).items() if isinstance(value, type)]
                raise SettingError(f"{where} has no {part!r}. Its classes: {', '.join(known[:12]) or 'none'}.")
            found = getattr(found, part)
        _check_makes_networks(spec, found)
        try:
            model = found(*positional, **named) if callable(found) and not isinstance(found, nn.Module) else found
        except Exception as error:
            raise SettingError(f"{spec} cannot be made: {type(error).__name__}: {error}.") from error
    if not isinstance(model, nn.Module):
        raise SettingError(f"{spec} is {type(model).__name__}, not a torch.nn.Module.")
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def load_trained(spec: str, weights: Path | None, hint: str) -> nn.Module:
    """:func:`load_model` for a command that needs trained weights: the file's, or such as the network loads itself.

    Args:
        hint: what to pass, for the error.

    Raises:
        SettingError: without a file, the network has other weights each time that it is made.
    """
    model = load_model(spec, weights)
    if weights is None and fingerprint(model)["weights"] != fingerprint(load_model(spec))["weights"]:
        raise SettingError(f"{spec} has random weights, for none were loaded. Pass {hint}.")
    return model


def _check_makes_networks(spec: str, found: object) -> None:
    """Refuse to call what is neither a class of networks nor a function that may be there to make one."""
    while isinstance(found, functools.partial):
        found = found.func
    owner = getattr(found, "__self__", None)  # of a class method, such as from_pretrained
    if any(isinstance(each, type) and issubclass(each, nn.Module) for each in (found, owner)):
        return
    if isinstance(found, nn.Module) or not callable(found):
        return
    module = getattr(found, "__module__", None) or ""
    package = module.partition(".")[0]
    if isinstance(found, types.FunctionType) and (package in PACKAGES or _is_own(found.__code__.co_filename)):
        return
    raise SettingError(
        f"{short(spec, 120)!r} is refused for safety: {type(found).__name__} of {module or 'no module'} is "
        "neither an nn.Module class nor a function in your own files. Write a function that returns the "
        "network in a file, and pass nets.py:make()."
    )


def _is_own(file: str) -> bool:
    """Whether a source file is neither Python's nor that of an installed package."""
    places = {Path(path).resolve() for path in sysconfig.get_paths().values() if path}
    places -= {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}  # a project may lie within
    path = Path(file).resolve()
    return path.is_file() and "site-packages" not in path.parts and not any(place in path.parents for place in places)


class AsTrained(nn.Module):
    """A network of torchvision's or timm's that is given samples as its own images were: brought to [0, 1], in three
    channels, then by ImageNet's mean and deviation."""

    def __init__(self, net: nn.Module, value_range: tuple[float, float]):
        super().__init__()
        self.net, self._range = net, value_range

    def forward(self, x: Tensor) -> object:
        """What the network answers."""
        mean, deviation = (x.new_tensor(numbers).view(1, 3, 1, 1) for numbers in IMAGENET)
        return self.net((unit(x, self._range).expand(-1, 3, -1, -1) - mean) / deviation)


def of_imagenet(spec: str) -> bool:
    """Whether a network is one that sees images as ImageNet's are normalised."""
    return spec.startswith(("torchvision.", "torchvision:", "timm.", "timm:"))


def as_trained(net: nn.Module, spec: str, value_range: tuple[float, float]) -> nn.Module:
    """A network that reads samples, given them as it was trained; one of the user's own gets them as they are."""
    return AsTrained(net, value_range) if of_imagenet(spec) else net


def _imported(where: str) -> object:
    """A module by its dotted name (the working folder counts), or by its file."""
    try:
        if where.endswith(".py") or "/" in where or os.sep in where:
            path = Path(where).resolve()
            if not path.is_file():
                raise SettingError(f"There is no file {where}.")
            _forget_neighbours_of_others(path.parent)
            sys.path.insert(0, str(path.parent))  # its neighbours are imported by name
            found = importlib.util.spec_from_file_location(path.stem, path)
            if found is None or found.loader is None:
                raise SettingError(f"{where} is not a Python file.")
            module = importlib.util.module_from_spec(found)
            sys.modules.setdefault(path.stem, module)
            found.loader.exec_module(module)
            return module
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(where)
    except SettingError:
        raise
    except (Exception, SystemExit) as error:  # a script that parses its arguments leaves
        raise SettingError(f"{where} cannot be imported: {type(error).__name__}: {error}.") from error


_FOLDERS: set[Path] = set()


def _forget_neighbours_of_others(folder: Path) -> None:
    """Two repositories may have neighbours of one name, ``layers.py``: those of files that were read before are not
    found in place of this file's own."""
    others = _FOLDERS - {folder}
    for name, module in list(sys.modules.items()):
        held = getattr(module, "__file__", None)
        at = Path(held).parent if held else None
        own = (folder / f"{name}.py").exists() or (folder / name).is_dir()
        if own and at is not None and any(at in (other, other / name) for other in others):
            del sys.modules[name]
    _FOLDERS.add(folder)
