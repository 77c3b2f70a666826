"""Damaged heads: a config or a file changed at random. ``Heads(folder).check(seed)`` loads one and says what is wrong.

``pytest tests/test_mutated_heads.py --heads 10000`` checks as many as one likes.
"""

import copy
import json
import random
import shutil
import time
from pathlib import Path

import torch
from helpers import clone, first, stir
from safetensors.torch import load_file, save_file
from zoo import ZOO

import fbwrap
from fbwrap.heads.files import sha256

NAMES = ("dcgan", "ast", "labels", "tokens", "list_of_responses", "fixed_head")
# where another value of the right kind gives another loop, as it would to who writes it by hand
SETTINGS = {"steps", "strength", "first", "critic_mode", "critic_input", "response", "dtype", "links", "weights"}
SLOWEST, MOST = 2.0, 100 << 20  # seconds, bytes
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, -0.5, 1e308, 10**12, 10**30, float("nan"), float("inf")),
    *(
        "",
        "0",
        "x" * 100_000,
        "main.0",
        "response",
        "image",
        "../../etc/passwd",
        "eval",
        "zeros",
        "dual",
        "\x00",
        "é",
        "1",
    ),
    *([], [[]], [None], {}, {"a": 1}, ["0"] * 5000, [[[[[[[[[[1]]]]]]]]]], {"kind": "dual"}, [0, 1], [1, 10**9], "[0]"),
)


def places(tree, path=()):
    """Every place in a config."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def near(value, rng):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice([value + 1, value - 1, value * 2, value * 1000, -value, float(value), 10**7])
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        words = ["channels_last", "time_first", "basic", "light", "batch", "none", "condition_and_output", "float16"]
        return rng.choice([value[:place] + "1" + value[place:], value[:place], value.upper(), *words])
    if isinstance(value, list):
        return rng.choice([value[1:], value[::-1], value + value[:1]])
    return {} if isinstance(value, dict) else 0 if value is None else None


def peak():
    """The most memory that this process used since :func:`forget`, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def forget():
    Path("/proc/self/clear_refs").write_text("5")


class Heads:
    """Some whole heads, with their networks."""

    def __init__(self, folder):
        self.folder, self.made = Path(folder), []
        for name in NAMES:
            G, D, args, loop = ZOO[name].build()
            stir(loop)
            loop.save_pretrained(self.folder / name, discriminator="all")
            with torch.no_grad():
                self.made.append((name, G, D, args, first(loop(*clone(args)))))

    def check(self, seed):
        """What is wrong with loading one mutated head, in words; None if nothing is. Whether it was loaded."""
        rng = random.Random(seed)
        name, G, D, args, wanted = rng.choice(self.made)
        target = self.folder / "mutated"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder / name, target)
        changed = self.mutate(target, rng)
        measured = Path("/proc/self/clear_refs").exists()
        if measured:
            forget()
            before = peak()
        begin = time.monotonic()
        loop, fault = None, None
        try:
            loop = fbwrap.from_pretrained(target, G, D)
        except fbwrap.FbwrapError as error:
            if len(str(error)) > 400 + len(str(target)):
                fault = f"a message of {len(str(error))} characters: {str(error)[:200]}"
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        took = time.monotonic() - begin
        if took > SLOWEST:
            fault = fault or f"it took {took:.1f} s"
        if measured and peak() - before > MOST:
            fault = fault or f"it took {(peak() - before) >> 20} MB"
        if loop is not None and fault is None:
            fault = self.differs(loop, args, wanted, changed)
        return (fault and f"{name}, {changed}: {fault}"), loop is not None

    def differs(self, loop, args, wanted, changed):
        loop.steps = min(loop.steps, 3)
        try:
            with torch.no_grad():
                y = first(loop(*clone(args)))
        except fbwrap.FbwrapError:
            return None  # said when it is used: D refuses another critic_input, say
        except Exception as error:
            return f"loaded, and then {type(error).__name__}: {str(error)[:200]}"
        if y.shape == wanted.shape and torch.equal(y, wanted):
            return None
        return None if {str(path[0]) for path in changed if path} & SETTINGS else "another loop, without a word"

    def mutate(self, target, rng):
        """Change a head on disk; the places that were changed."""
        kind = rng.choice(["config"] * 12 + ["text", "weights", "weights", "file"])
        path = target / "config.json"
        if kind == "config":
            config = json.loads(path.read_text())
            changed = [self.change(config, rng) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
            path.write_text(json.dumps(config))
            return changed
        if kind == "text":
            text = bytearray(path.read_bytes())
            for _ in range(rng.randint(1, 4)):
                text[rng.randrange(len(text))] = rng.randrange(256)
            path.write_bytes(bytes(text))
            return [("links",)] if text != path.read_bytes() else [("weights",)]
        file = target / rng.choice(["feedback.safetensors", "discriminator.safetensors"])
        if kind == "file":
            held = bytearray(file.read_bytes())
            how = rng.choice(["flip", "cut", "grow", "gone"])
            if how == "gone":
                file.unlink()
            else:
                held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
                file.write_bytes(bytes({"flip": held, "cut": held[: len(held) // 2], "grow": held * 2}[how]))
        else:
            tensors = load_file(file)
            key = rng.choice(sorted(tensors))
            how = rng.choice(["shape", "type", "name", "gone", "nan", "value", "extra"])
            value = tensors.pop(key)
            if how == "shape":
                tensors[key] = torch.zeros(rng.choice([0, 1, 3, 1000]), *value.shape[1:], dtype=value.dtype)
            elif how == "type":
                tensors[key] = value.to(rng.choice([torch.float16, torch.int64, torch.bool, torch.float64]))
            elif how == "name":
                tensors[rng.choice(["", "x", "0.body.99.weight", "é" * 1000])] = value
            elif how in ("nan", "value"):
                value = value.clone()
                value.view(-1)[:1] = float("nan") if how == "nan" and value.is_floating_point() else 1
                tensors[key] = value
            elif how == "extra":
                tensors |= {key: value, "more": torch.zeros(4)}
            save_file(tensors, file)
        if rng.random() < 0.7 and file.exists():  # a stranger may name the hash that his file has
            config = json.loads(path.read_text())
            config["files"][file.name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
            path.write_text(json.dumps(config))
        return [("weights", file.name)]

    @staticmethod
    def change(config, rng):
        path = rng.choice([place for place in places(config) if place])
        holder = config
        for key in path[:-1]:
            holder = holder[key]
        key, how = path[-1], rng.choice(["value"] * 5 + ["near"] * 4 + ["other", "gone", "more", "wrapped"])
        if how == "gone":
            del holder[key]
        elif how == "more" and isinstance(holder[key], list):
            holder[key] = holder[key] * rng.choice([2, 100, 5000])
        elif how == "near":
            holder[key] = near(holder[key], rng)
        elif how == "other":
            other = rng.choice([place for place in places(config) if place])
            value = config
            for part in other:
                value = value[part]
            holder[key] = copy.deepcopy(value)
        elif how == "wrapped":
            holder[key] = rng.choice([[holder[key]], {"a": holder[key]}, str(holder[key])])
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        return path
