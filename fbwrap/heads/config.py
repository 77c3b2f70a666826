"""The config of a head, checked field by field: exact types, texts and lists of a length that a head has.

Examples:
    >>> check_config({"format": "fbwrap-head", "version": 1}, "config.json")
    Traceback (most recent call last):
    ...
    fbwrap.errors.HeadError: config.json is damaged: 'links' is missing. Download or copy the head again.

A config may be a stranger's. What passes here is plain data of bounded size; whether it fits the networks is found out
when it is attached.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import HeadError, SettingError
from ..feedback.features import FRAMES, SPECTROGRAMS
from ..feedback.latents import read_latents

FORMAT = "fbwrap-head"
VERSION = 1
FEEDBACK, DISCRIMINATOR = "feedback.safetensors", "discriminator.safetensors"
STORED = {"fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
LAYOUTS = ("channels_first", "channels_last", "time_first", "reshaped")
MOST_STEPS = 1000
MOST_LINKS = 64  # and sources of a link
MOST_PACKED = 1000
_NAME, _TEXT, _NOTES, _LIST = 500, 2000, 100_000, 20_000  # characters, items
_ABSENT = object()

Check = Callable[[Any], bool]


def _text(most: int = _TEXT) -> Check:
    return lambda value: type(value) is str and len(value) <= most


def _choice(*known: object) -> Check:
    return lambda value: any(type(value) is type(each) and value == each for each in known)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check, most: int, least: int = 0) -> Check:
    return lambda value: type(value) is list and least <= len(value) <= most and all(map(check, value))


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e30


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _is_hash(value: object) -> bool:
    return type(value) is str and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_identifier(value: object) -> bool:
    return type(value) is str and len(value) <= _NAME and value.isidentifier()


def _is_range(value: Any) -> bool:
    pair = type(value) is list and len(value) == 2 and all(map(_is_number, value))
    return pair and -1e9 < value[0] < value[1] < 1e9


def _is_option(value: object) -> bool:
    """An option of a module: a number, a word, or a short list of them."""
    plain = _is_bool(value) or value is None or _is_number(value) or _text(_NAME)(value)
    return plain or (type(value) is list and len(value) <= MOST_LINKS and all(map(_is_option, value)))


def _is_module(value: Any) -> bool:
    named = type(value) is dict and _text(_NAME)(value.get("kind")) and len(value) <= MOST_LINKS
    return named and all(_text(_NAME)(key) and _is_option(option) for key, option in value.items())


def _is_notes(value: object) -> bool:
    """Plain data of any kind, of the size of a note."""
    return type(value) is dict and all(type(key) is str for key in value) and len(json.dumps(value)) <= _NOTES


def _is_example(value: object, depth: int = 0) -> bool:
    """A spec of :mod:`fbwrap.heads.example`."""
    if depth > 6:
        return False
    if type(value) is list:
        return len(value) <= MOST_LINKS and all(_is_example(item, depth + 1) for item in value)
    if type(value) is not dict or len(value) > 2:
        return False
    if set(value) == {"mapping"}:
        held = value["mapping"]
        named = type(held) is dict and len(held) <= MOST_LINKS and all(map(_text(_NAME), held))
        return named and all(_is_example(item, depth + 1) for item in held.values())
    if set(value) == {"value"}:
        return _is_option(value["value"]) and type(value["value"]) is not list
    if set(value) == {"opaque"}:
        return _text(_NAME)(value["opaque"])
    shape = set(value) == {"shape", "dtype"} and _list_of(_whole(0, 1 << 24), 8)(value["shape"])
    return shape and _text(_NAME)(value["dtype"])


def _is_fingerprint(value: object) -> bool:
    if type(value) is not dict or not set(value) <= {"class", "structure", "weights", "unused", "moving"}:
        return False
    hashes = _is_hash(value.get("structure")) and _is_hash(value.get("weights")) and _text(_NAME)(value.get("class"))
    lists = (value[key] for key in ("unused", "moving") if key in value)
    return hashes and all(_list_of(_text(_NAME), _LIST)(names) for names in lists)


def _is_adapter(value: object) -> bool:
    """What an adapter knew: its names, the range of samples, papers."""
    if type(value) is not dict:
        return False
    said = {"generator": _or_none(_text(_NAME)), "discriminator": _or_none(_text(_NAME)),
            "value_range": _or_none(_is_range), "citations": _list_of(_text(), MOST_LINKS)}  # fmt: skip
    return set(value) <= said.keys() and all(said[key](each) for key, each in value.items())


def _is_latents(value: object) -> bool:
    try:
        return type(value) in (str, list, dict) and len(json.dumps(value)) <= _TEXT and bool(read_latents(value))
    except SettingError:
        return False


def _is_critic_spec(value: object) -> bool:
    return type(value) is list and len(value) == 2 and _text(_NAME)(value[0]) and _is_range(value[1])


def _is_files(value: object) -> bool:
    return type(value) is dict and all(
        type(facts) is dict and _is_hash(facts.get("sha256")) and _whole(0, 1 << 50)(facts.get("bytes"))
        for facts in value.values()
    )


_LINK: dict[str, Check] = {
    "target": _text(_NAME),
    "at": _choice("output", "input"),
    "sources": _list_of(_text(_NAME), MOST_LINKS, 1),
    "module": _is_module,
    "own_module": _is_bool,
    "carry": _is_bool,
    "feature": _choice("current", "previous"),
    "target_layout": _choice(*LAYOUTS, FRAMES),
    "source_layouts": _list_of(_choice(*LAYOUTS, *SPECTROGRAMS), MOST_LINKS, 1),
    "strength": _is_number,
}
_HEAD: dict[str, Check] = {
    "links": lambda value: type(value) is list and 1 <= len(value) <= MOST_LINKS,
    "steps": _whole(0, MOST_STEPS),
    "strength": _is_number,
    "dtype": _choice(*DTYPES),
    "first": _choice("base", "zeros"),
    "critic_mode": _choice("eval", "inherit"),
    "detach_signals": _is_bool,
    "method": _is_identifier,
    "critic_size": _or_none(_is_identifier),
    "adapter": _is_adapter,
    "critic_spec": _or_none(_is_critic_spec),
    "base": _or_none(_text(_NAME)),
    "critic_input": _or_none(_text(_NAME)),
    "response": _or_none(_text(_NAME)),
    "own_response": _is_bool,
    "example": lambda value: type(value) is list and len(value) == 2 and _is_example(value),
    "generator": _is_fingerprint,
    "discriminator": _or_none(_is_fingerprint),
    "trained_on": _is_notes,
    "files": _is_files,
}
# written by newer versions; a head without them is one of before
_LATER: dict[str, Check] = {
    "generator_mode": _or_none(_choice("train", "eval")),
    "latents": _or_none(_is_latents),
    "pack": _or_none(_whole(1, MOST_PACKED)),
}


def check_config(config: object, where: str) -> None:
    """Refuse what is no config of a head.

    Args:
        where: what it is called in the message.

    Raises:
        HeadError: not one, of a newer format, or a field that is missing, of the wrong kind, or larger than any head's.
    """
    if type(config) is not dict or config.get("format") != FORMAT:
        raise HeadError(f"{where} is not the config of an fbwrap head.")
    version = config.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise HeadError(
            f"{where} has format version {shown(version)}; this fbwrap reads up to {VERSION}. Upgrade fbwrap."
        )
    _check(config, _HEAD, where, "")
    if not {FEEDBACK} <= set(config["files"]) <= {FEEDBACK, DISCRIMINATOR}:
        raise HeadError(f"{where} names files that no head has: {shown(sorted(config['files']))}.")
    for number, link in enumerate(config["links"]):
        if type(link) is not dict:
            raise HeadError(f"{where} is damaged: link {number} is {shown(link)}. Download or copy the head again.")
        _check(link, _LINK, where, f" of link {number}")
    _check({key: config.get(key) for key in _LATER}, _LATER, where, "")


def _check(held: Mapping[str, object], wanted: Mapping[str, Check], where: str, of: str) -> None:
    for key, check in wanted.items():
        value = held.get(key, _ABSENT)
        if value is _ABSENT:
            raise HeadError(f"{where} is damaged: {key!r}{of} is missing. Download or copy the head again.")
        try:
            fine = check(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            fine = False
        if not fine:
            raise HeadError(
                f"{where} is damaged: {key!r}{of} is {shown(value)}, which no head has. Download or copy the head "
                "again."
            )


def shown(value: object, most: int = 60) -> str:
    """Foreign data in a message: short, on one line."""
    try:
        text = " ".join(repr(value)[: 4 * most].split())
    except Exception:  # noqa: BLE001 -- a number too large to be written, say
        text = type(value).__name__
    return text if len(text) <= most else f"{text[:most]}…"
