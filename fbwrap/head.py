"""Heads on disk: a folder with ``config.json``, ``feedback.safetensors``, ``discriminator.safetensors``.

Example:
    >>> loop.save_pretrained("head")                          # doctest: +SKIP
    >>> loop = fbwrap.from_pretrained("head", G, D)           # doctest: +SKIP

Only JSON and safetensors are read: nothing in a head can run code. Everything is checked before a
model is touched: the format's version, the hash and size of each file, the structure (and with
``strict`` the weights) of the base networks, every name and shape.
"""

import copy
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .attach import attach
from .critic import CriticInput
from .errors import FbwrapError, HeadError
from .fingerprint import fingerprint
from .links import Link
from .loop import FeedbackLoop
from .modules import KINDS
from .naming import unwrap

logger = logging.getLogger("fbwrap")

FORMAT = "fbwrap-head"
VERSION = 1
CONFIG, FEEDBACK, DISCRIMINATOR = "config.json", "feedback.safetensors", "discriminator.safetensors"
_MOST_CONFIG_BYTES = 4 << 20
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}


# -- saving -------------------------------------------------------------------------------------------


def save_pretrained(
    loop: FeedbackLoop,
    folder: str | os.PathLike[str],
    *,
    discriminator: Literal["auto", "all", "none"] = "auto",
    trained_on: Mapping[str, Any] | None = None,
) -> Path:
    """Write a head: the modules, their settings, and D where it differs from the one it came from.

    Args:
        folder: made if need be; other files in it stay.
        discriminator: ``"auto"``: D's weights if they differ from those at attach, and of them only
            the part that the loop runs; ``"all"``: all of D; ``"none"``: nothing of D.
        trained_on: plain data about the training, stored as it is.

    Returns:
        The folder.

    Raises:
        HeadError: the folder cannot be written; what was in it before is unharmed.
    """
    if discriminator not in ("auto", "all", "none"):
        raise HeadError(f"discriminator={discriminator!r}: pass 'auto', 'all' or 'none'.")
    files: dict[str, dict[str, Tensor]] = {FEEDBACK: loop.feedback.state_dict()}
    shipped = _discriminator_part(loop, discriminator)
    if shipped:
        files[DISCRIMINATOR] = shipped
    target = Path(folder)
    config = _config(loop, trained_on)
    try:
        json.dumps(config)
    except TypeError as error:
        raise HeadError(f"trained_on must be plain data (text, numbers, lists, dicts): {error}.") from error
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".fbwrap-") as temporary:
            written = {name: _write(Path(temporary) / name, tensors) for name, tensors in files.items()}
            config["files"] = written
            (Path(temporary) / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            for name in (*files, CONFIG):
                shutil.copymode(Path(temporary) / CONFIG, Path(temporary) / name)  # safetensors makes them private
                os.replace(Path(temporary) / name, target / name)
        if DISCRIMINATOR not in files:
            (target / DISCRIMINATOR).unlink(missing_ok=True)
    except OSError as error:
        raise HeadError(
            f"The head could not be written to {target}: {error}. Choose a folder that can be written; "
            "nothing that was there is damaged."
        ) from error
    return target


def _write(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    from safetensors.torch import save_file

    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _discriminator_part(loop: FeedbackLoop, which: str) -> dict[str, Tensor]:
    critic = loop.discriminator
    if critic is None or which == "none":
        return {}
    changed = fingerprint(critic) != loop.facts["fingerprints"]["discriminator"]
    if which == "auto" and not changed and not loop.facts.get("head_has_discriminator"):
        return {}
    state = {k: v for k, v in unwrap(critic).state_dict().items() if isinstance(v, Tensor)}
    called = loop.facts["critic_called"]
    if which == "all" or called is None:
        return state
    known = {name for name, _ in unwrap(critic).named_modules()}
    needed = set(called) | {""}
    # parameters of a module that is not a known, called layer itself (parametrizations, bare
    # parameters of a container) go by the nearest layer that was called
    return {key: value for key, value in state.items() if _owner(key, known, needed)}


def _owner(key: str, known: set[str], needed: set[str]) -> bool:
    owner = key.rpartition(".")[0]
    while owner and (owner not in known or "parametrizations" in owner.split(".")):
        owner = owner.rpartition(".")[0]
    return owner in needed or owner == ""


def _config(loop: FeedbackLoop, trained_on: Mapping[str, Any] | None) -> dict[str, Any]:
    from . import __version__

    facts = loop.facts
    links = []
    for index, connection in enumerate(loop.connections):
        links.append({**connection.to_config(), "strength": _number(loop[index].strength)})
    return {
        "format": FORMAT,
        "version": VERSION,
        "fbwrap": __version__,
        "links": links,
        "steps": loop.steps,
        "strength": _number(loop.strength),
        "first": loop.plan.first,
        "critic_mode": loop.critic_mode,
        "critic_input": facts["critic_input"],
        "response": facts["response"],
        "own_response": facts["own_response"],
        "example": _example_spec(facts["example"]),
        "generator": facts["fingerprints"]["generator"],
        "discriminator": facts["fingerprints"]["discriminator"],
        "trained_on": dict(trained_on or loop.facts.get("trained_on") or {}),
    }


def _number(strength: float | Tensor) -> float:
    if isinstance(strength, float):
        return strength
    logger.warning("A strength that is a tensor belongs to one batch: the head stores 1.0 instead.")
    return 1.0


def _example_spec(value: Any) -> Any:
    """Shapes and types of an example, so that loading can make one like it."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"shape": list(value.shape), "dtype": kind}
    if isinstance(value, tuple | list):
        return [_example_spec(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _example_spec(item) for key, item in value.items()}}
    if value is None or isinstance(value, str | int | float | bool):
        return {"value": value}
    return {"opaque": type(value).__name__}


def _example_from(spec: Any, device: torch.device) -> Any:
    if isinstance(spec, list):
        return tuple(_example_from(item, device) for item in spec)
    if "mapping" in spec:
        return {key: _example_from(item, device) for key, item in spec["mapping"].items()}
    if "value" in spec:
        return spec["value"]
    if "opaque" in spec:
        raise HeadError(
            f"The head was made with an input of type {spec['opaque']}, which a head cannot store. Pass "
            "example= to from_pretrained."
        )
    dtype = _DTYPES[spec["dtype"]]
    if dtype.is_floating_point:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(spec["shape"], generator=generator).to(device=device, dtype=dtype)
    return torch.zeros(spec["shape"], dtype=dtype, device=device)


# -- loading ------------------------------------------------------------------------------------------


def from_pretrained(
    folder: str | os.PathLike[str],
    generator: nn.Module,
    discriminator: nn.Module | None = None,
    *,
    critic_input: str | CriticInput | None = None,
    response: str | Callable[[Any], Tensor] | None = None,
    example: Any = None,
    modules: Mapping[str, Any] | None = None,
    strict: bool = True,
) -> FeedbackLoop:
    """Attach a saved head to a generator and discriminator.

    Args:
        folder: what :meth:`FeedbackLoop.save_pretrained` wrote.
        generator: the base generator, its weights loaded.
        discriminator: a discriminator of the same architecture. If the head ships D's weights they
            go into the loop's own copy; the one given stays as it is.
        critic_input: only for a head that was made with a function of the user's.
        response: likewise.
        example: inputs of G in place of ones like those that the head was made with.
        modules: ``{name: class}`` for feedback modules of one's own.
        strict: refuse base networks whose weights differ from those that the head was trained for.
            Networks of another structure are always refused.

    Returns:
        The loop, in eval mode, with the head's steps and strengths.

    Raises:
        HeadError: no head there, a damaged or foreign one, one of a newer format, or one for another
            model. Nothing is changed then.
    """
    config, tensors = _read(Path(folder))
    _check_base("generator", config["generator"], generator, strict, shipped=False)
    shipped = tensors.get(DISCRIMINATOR)
    if discriminator is not None and config["discriminator"] is not None:
        _check_base("discriminator", config["discriminator"], discriminator, strict, bool(shipped))
    if discriminator is None and config["discriminator"] is not None:
        raise HeadError(
            f"This head looks with a discriminator ({config['discriminator']['class']}). Pass one of that "
            "architecture: from_pretrained(folder, G, D)."
        )
    critic = _with_weights(discriminator, shipped) if shipped and discriminator else discriminator
    if critic_input is None and config["critic_input"] is None:
        raise HeadError(
            "This head was made with a critic_input function of its author's, which a head cannot store. "
            "Pass the same function: from_pretrained(..., critic_input=...)."
        )
    if response is None and config["own_response"]:
        raise HeadError(
            "This head was made with a response function of its author's, which a head cannot store. "
            "Pass the same function: from_pretrained(..., response=...)."
        )
    if example is None:
        args, kwargs = _example_from(config["example"], _device(generator))
        example = kwargs if kwargs and not args else args
        if kwargs and args:
            raise HeadError("This head needs example=: its G takes positional and keyword inputs.")
    loop = attach(
        generator,
        critic,
        [_link(link, modules or {}) for link in config["links"]],
        example=example,
        critic_input=critic_input or config["critic_input"],
        response=response or config["response"],
        steps=config["steps"],
        strength=config["strength"],
        first=config["first"],
        critic_mode=config["critic_mode"],
    )
    loop.facts["fingerprints"] = {
        "generator": config["generator"],
        "discriminator": config["discriminator"],
    }
    loop.facts["head_has_discriminator"] = bool(shipped)
    loop.facts["trained_on"] = config["trained_on"]
    _load(loop.feedback, tensors[FEEDBACK], "feedback modules")
    return loop


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """A head's config and tensors, checked."""
    if not folder.is_dir():
        raise HeadError(f"There is no head at {folder}: no such folder. Pass a folder that holds {CONFIG}.")
    path = folder / CONFIG
    if not path.is_file():
        raise HeadError(f"{folder} is not a head: it holds no {CONFIG}.")
    try:
        if path.stat().st_size > _MOST_CONFIG_BYTES:
            raise HeadError(f"{path} is larger than any head's config ({_MOST_CONFIG_BYTES} bytes).")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadError(f"{path} cannot be read: {error}. The head is damaged; get it again.") from error
    _check_config(path, config)
    return config, {name: _tensors(folder / name, facts) for name, facts in config["files"].items()}


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise HeadError(f"{path} is not the config of an fbwrap head.")
    version = config.get("version")
    if not isinstance(version, int) or version > VERSION or version < 1:
        raise HeadError(f"{path} has format version {version}; this fbwrap reads up to {VERSION}. Upgrade fbwrap.")
    wanted: dict[str, type | tuple[type, ...]] = {
        "links": list, "steps": int, "strength": float, "first": str, "critic_mode": str,
        "example": list, "generator": dict, "files": dict, "trained_on": dict, "own_response": bool,
        "critic_input": (str, type(None)), "response": (str, type(None)),
        "discriminator": (dict, type(None)),
    }  # fmt: skip
    for key, kind in wanted.items():
        if key not in config or not isinstance(config[key], kind):
            raise HeadError(f"{path} is damaged: {key!r} is missing or of the wrong kind. Get it again.")
    if not {FEEDBACK} <= set(config["files"]) <= {FEEDBACK, DISCRIMINATOR}:
        raise HeadError(f"{path} names files that no head has: {sorted(config['files'])}.")


def _tensors(path: Path, facts: Any) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise HeadError(f"The head is incomplete: {path} is missing. Get it again.")
    if not isinstance(facts, dict) or path.stat().st_size != facts.get("bytes") or _sha256(path) != facts.get("sha256"):
        raise HeadError(
            f"{path} is damaged or belongs to another head: its size or hash is not the one that "
            f"{CONFIG} names. Get the head again."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadError(f"{path} cannot be read: {error}. Get the head again.") from error


def _check_base(what: str, wanted: Mapping[str, Any], model: nn.Module, strict: bool, shipped: bool) -> None:
    found = fingerprint(model)
    if found["structure"] != wanted.get("structure"):
        raise HeadError(
            f"This head is for another {what}: it was made for {wanted.get('class')}, and the layers of "
            f"this {found['class']} have other names or shapes. Pass the {what} it was trained with."
        )
    if strict and not shipped and found["weights"] != wanted.get("weights"):
        raise HeadError(
            f"This {what} has the right layers, but other weights (or another dtype) than the one that "
            "the head was trained for. Load those weights; strict=False attaches all the same."
        )


def _with_weights(critic: nn.Module, shipped: Mapping[str, Tensor]) -> nn.Module:
    """A copy of D with the head's weights in it."""
    copied = copy.deepcopy(unwrap(critic))
    state = copied.state_dict()
    wrong = [k for k, v in shipped.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise HeadError(f"The head's discriminator does not fit the one given: {wrong[:3]}.")
    copied.load_state_dict(dict(shipped), strict=False)
    return copied


def _link(config: Any, own: Mapping[str, Any]) -> Link:
    try:
        module = dict(config["module"])
        if config["own_module"]:
            if module["kind"] not in own:
                raise HeadError(
                    f"This head uses a feedback module of its author's, {module['kind']!r}. Pass its class: "
                    f"from_pretrained(..., modules={{{module['kind']!r}: CLASS}})."
                )
            chosen: Any = own[module["kind"]]
        elif module["kind"] in KINDS:
            chosen = module
        else:
            raise HeadError(f"This head uses an unknown feedback module {module['kind']!r}. Upgrade fbwrap.")
        layouts = set(config["source_layouts"])
        return Link(
            config["target"],
            list(config["sources"]),
            module=chosen,
            strength=float(config["strength"]),
            carry=bool(config["carry"]),
            at=config["at"],
            feature=config["feature"],
            target_layout=config["target_layout"],
            source_layout=layouts.pop() if len(layouts) == 1 else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FbwrapError):
            raise
        raise HeadError(f"The head's config is damaged: a link lacks {error}. Get it again.") from error


def _load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise HeadError(f"The head's {what} do not fit its config: {error}") from error
