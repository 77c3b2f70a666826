"""Batches from what the user has: tensors, a dataset, a function, or any iterable.

Examples:
    >>> import torch
    >>> batches = Batches(torch.arange(6.0), seed=0)
    >>> sorted(torch.cat([batches.next(3), batches.next(3)]).tolist())
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]

Rows are drawn without replacement, in an order that depends on the seed and the position alone, and a dataset's item
has random numbers that depend on them too: a run resumes where it was, with any number of workers.
"""

import copy
import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from fbwrap.engine.context import usable
from fbwrap.engine.pytree import map_tensors, tensors
from fbwrap.engine.rng import RngState
from fbwrap.errors import SettingError
from fbwrap.feedback.facts import inputs_of


class Batches:
    """An endless stream of batches.

    Args:
        source: a tensor, or a tuple or dict of tensors of equal length, one sample a row; a dataset (it has a
            length and gives item i, as those of :mod:`fbwrap.recipes.data` do); a function ``f(n)`` that returns a
            batch of n; or any other iterable of batches (a list, a DataLoader), started again at its end. A DataLoader
            that shuffles by itself resumes with other batches than it would have given: pass its dataset.
        seed: of the order of rows, and of what a dataset's items draw (crops, flips).
        device: where batches go.
        workers: processes that read a dataset's items ahead; 0: this one reads them.

    Raises:
        SettingError: what is no such source, or an empty one.
    """

    def __init__(self, source: Any, seed: int = 0, device: torch.device | str = "cpu", workers: int = 0):
        self._source, self._seed, self._device, self._workers = source, seed, torch.device(device), workers
        self._ahead: tuple[int, Iterator[Any]] | None = None  # batches of so many
        self.position, self.batches = 0, 0
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)
        self._function: Callable[[int], Any] | None = None
        self._iterator: Iterator[Any] | None = None
        self._dataset: Any = None
        self._rows = 0
        self._allowed: Tensor | None = None  # None: all rows
        _refuse_a_path(source)
        rows = isinstance(source, Tensor | tuple | dict)
        held = [tensor for _, tensor in tensors(source)] if rows else []
        if held:
            many = [len(tensor) if tensor.dim() else 0 for tensor in held]
            self._rows = many[0]
            if not self._rows or any(rows != self._rows for rows in many):
                raise SettingError(f"The data's tensors have {many} rows. Pass tensors of one length, a sample a row.")
        elif isinstance(source, tuple | dict):
            raise SettingError(
                "The data holds no tensor: pass torch tensors (torch.from_numpy), or a dataset of items."
            )
        elif (
            hasattr(source, "__getitem__")
            and hasattr(source, "__len__")
            and not isinstance(source, list | IterableDataset)  # which give batches
        ):
            self._dataset, self._rows = source, len(source)
            if not self._rows:
                raise SettingError("The data is empty: its dataset has no item.")
        elif callable(source):
            self._function = source
        elif not isinstance(source, Iterable):
            raise SettingError(
                f"{type(source).__name__} is no source of batches. Pass a tensor of samples, a function "
                "f(n) that returns n of them, or an iterable of batches."
            )

    def next(self, n: int, share: Callable[[Any], Any] = lambda batch: batch) -> Any:
        """The next batch, on the device: n samples (an iterable decides by itself how many), of which ``share`` takes a
        part."""
        if self._dataset is not None:
            batch = self._from_dataset(n, share)
        elif self._rows:
            rows = share(self._rows_at(self.position, n))
            batch = map_tensors(lambda tensor: tensor[rows.to(tensor.device)], self._source)
        else:
            batch = share(self._function(n) if self._function is not None else self._from_iterable())
        self.position += n
        self.batches += 1
        batch = tuple(batch) if type(batch) is list else batch  # as a DataLoader has it
        return map_tensors(lambda tensor: usable(tensor).to(self._device), batch)

    def hold_out(self, n: int) -> "Batches | None":
        """Take n samples away from this stream, before its first batch: a stream of those alone.

        Of a tensor or dataset with fewer than 4n rows, of a function and of an iterable nothing is taken away, and the
        other stream draws as this one does; so it does with n = 0. None for an iterable that can be read only once.
        """
        if not self._rows and self._function is None and iter(self._source) is self._source:
            return None
        held = Batches(self._source, self._seed + 7919, self._device)
        if n and self._rows >= 4 * n:
            order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(self._seed))
            held._allowed, self._allowed = order[:n], order[n:]
            held._rows, self._rows = n, self._rows - n
        return held

    def about(self) -> str:
        """What the data is, in a few words: of tensors their shape, type and beginning."""
        held = [tensor for _, tensor in tensors(self._source)] if self._rows and self._dataset is None else []
        if held:
            first = held[0].detach()[:16].to("cpu").contiguous()
            digest = hashlib.sha256(first.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:12]
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in held)
            return f"{shapes} {str(first.dtype).removeprefix('torch.')} beginning {digest}"
        kind = type(self._source).__name__ if self._function is None else "a function"
        return f"{kind} of {self._rows}" if self._rows else kind

    def state(self) -> list[int]:
        """Where the stream is: samples and batches drawn."""
        return [self.position, self.batches]

    def restore(self, state: list[int]) -> None:
        """Go on from a state; an iterable is read up to there."""
        self.position, self.batches = state
        self.close()
        if not self._rows and self._function is None:
            for _ in range(self.batches):
                self._from_iterable()

    def close(self) -> None:
        """End the workers."""
        self._ahead = None

    def _from_dataset(self, n: int, share: Callable[[Any], Any]) -> Any:
        items = _Items(self._dataset, self._seed)
        if not self._workers:
            return _collated([items[key] for key in self._keys_at(self.position, n, share)])
        if self._ahead is None or self._ahead[0] != n:
            coming = _Endless(self._keys_at(position, n, share) for position in itertools.count(self.position, n))
            loader: DataLoader[Any] = DataLoader(
                items,  # type: ignore[arg-type] # it is called with keys
                batch_sampler=coming,  # it has no end
                num_workers=self._workers,
                collate_fn=_collated,
                generator=torch.Generator(),  # or it draws from the run's
            )
            self._ahead = n, iter(loader)
        return next(self._ahead[1])

    def _keys_at(self, position: int, n: int, share: Callable[[Any], Any]) -> list[tuple[int, int]]:
        rows = torch.stack((torch.arange(position, position + n), self._rows_at(position, n)), 1)
        return [(int(place), int(row)) for place, row in share(rows)]

    def _rows_at(self, position: int, n: int) -> Tensor:
        """The rows of the n samples from a position on."""
        parts: list[Tensor] = []
        while n > 0:
            epoch, place = divmod(position + sum(len(part) for part in parts), self._rows)
            if epoch != self._epoch:
                generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
                order = torch.randperm(self._rows, generator=generator)
                self._epoch, self._order = epoch, order if self._allowed is None else self._allowed[order]
            parts.append(self._order[place : place + n])
            n -= len(parts[-1])
        return torch.cat(parts)

    def _from_iterable(self) -> Any:
        if self._iterator is not None:
            for batch in self._iterator:
                return batch
        self._iterator = iter(self._source)
        for batch in self._iterator:
            return batch
        raise SettingError(
            "The data is empty: its iterable yields no batch."
            if not self.batches else
            f"The data gave no more than {self.batches} batches and does not begin again, as a generator does not. "
            "Pass a list, a DataLoader, or an object whose __iter__ begins from the start each time."
        )  # fmt: skip


def _refuse_a_path(source: object) -> None:
    if isinstance(source, str | os.PathLike):
        raise SettingError(
            f"{str(source)!r} is text, not data. A folder of pictures: pass fbwrap.recipes.data.Images(path, "
            "size=64); other kinds are in fbwrap.recipes.data. Latents: pass a function, such as lambda n: "
            "torch.randn(n, 100)."
        )


def _collated(items: list[Any]) -> Any:
    try:
        batch = default_collate(items)
        return tuple(batch) if isinstance(batch, list) else batch
    except (TypeError, RuntimeError) as error:
        raise SettingError(
            f"The dataset's items do not go into one batch: {error}. They must be tensors of one size (or tuples "
            "or dicts of them): give Images and the like a size=, and see fbwrap.recipes.data.sources, Pictures and "
            "Mapped, for datasets of pictures and of other items."
        ) from error


class _Items:
    """A dataset's items, each with random numbers of its own: those of its place in the stream."""

    def __init__(self, dataset: Any, seed: int):
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        place, row = key
        with _own_numbers(self._seed * 1_000_003 + place):
            return self._dataset[row]


@contextmanager
def _own_numbers(seed: int) -> Iterator[None]:
    """Within the block torch's (the CPU's), Python's and NumPy's random numbers are those of a seed."""
    numpy: Any = None
    with suppress(ImportError):
        import numpy.random as numpy
    rng = RngState(torch.device("cpu"))
    before = rng.get()
    try:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the GPU's too
        random.seed(seed)
        if numpy:
            numpy.seed(seed % 2**32)
        yield
    finally:
        rng.set(before)


class _Endless:
    """Keys of batches, once through, as a sampler."""

    def __init__(self, keys: Iterator[list[tuple[int, int]]]):
        self._keys = keys

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._keys


def _whole(batch: Any) -> Any:
    return batch


def part_of(batch: Any, index: int, count: int) -> Any:
    """The rows of one of ``count`` equal parts of a batch, in every tensor of it."""
    if count == 1:
        return batch

    def rows(tensor: Tensor) -> Tensor:
        if not tensor.dim():  # a setting, the same for all samples
            return tensor
        if len(tensor) % count:
            raise SettingError(
                f"A batch of {len(tensor)} does not divide into {count} equal parts. Set batch to a multiple of the "
                "number of processes times accumulate; a DataLoader's last batch may be short: drop_last=True."
            )
        return tensor.chunk(count)[index]

    return map_tensors(rows, batch)


@dataclass(frozen=True)
class Pairs:
    """Paired data: G's inputs, and what G should make of them.

    Examples:
        >>> pairs = Pairs(low_resolution, high_resolution)               # doctest: +SKIP
        >>> fbwrap.recipes.AFL(loop, reconstruction=1.0).fit(pairs)      # doctest: +SKIP

    Args:
        inputs: as ``latents`` of a recipe's ``fit``: a tensor, or a tuple or dict of tensors.
        targets: a tensor of as many rows; None: ``inputs`` is an iterable (a DataLoader) of such pairs.
    """

    inputs: Any
    targets: Any = None


class Stream:
    """Batches for a step: G's inputs, the target if there is one, and what D is called with for real data.

    Args:
        real: a source of what D is called with (see :class:`Batches`), or :class:`Pairs`, of which D is called with
            the target in place of G's output.
        latents: a source of G's inputs; None with pairs.
    """

    def __init__(
        self, real: Any, latents: Any, seed: int, device: torch.device, share: Callable[[Any], Any], workers: int = 0
    ):
        self.paired = isinstance(real, Pairs)
        if self.paired is not (latents is None):
            raise SettingError(
                "Pass real data and latents= (inputs of G). Or pass Pairs(inputs, targets) and no latents."
            )
        source = real
        if isinstance(real, Pairs):
            source = real.inputs if real.targets is None else (real.inputs, real.targets)
        self._real, self._share = Batches(source, seed, device, workers), share
        self._latents = Batches(latents, seed + 1, device, workers) if latents is not None else None

    def next(self, n: int, critic_input: Callable[..., Any]) -> tuple[Any, Any, Any]:
        """A batch of n for all processes, this one's share of it: inputs, target or None, real data."""
        if self._latents is not None:
            return self._latents.next(n, self._share), None, self._real.next(n, self._share)
        pair = self._real.next(n, self._share)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            held = f"a dict of {', '.join(map(str, pair))}" if isinstance(pair, dict) else type(pair).__name__
            raise SettingError(
                f"Paired data is (inputs, target), and a batch is {held}. For a dataset of dicts: "
                "Mapped(dataset, lambda item: (item['lq'], item['gt']))."
            )
        inputs, target = pair
        args, kwargs = inputs_of(tuple(inputs) if isinstance(inputs, list) else inputs)
        return inputs, target, critic_input(target, *args, **kwargs)

    def hold_out(self, n: int) -> "Stream | None":
        """Take n samples away, as :meth:`Batches.hold_out` does; a stream of those, whole in every process."""
        real = self._real.hold_out(n)
        latents = self._latents.hold_out(n) if self._latents is not None else None
        if real is None or (self._latents is not None and latents is None):
            return None
        held = copy.copy(self)
        held._real, held._latents, held._share = real, latents, _whole
        return held

    def about(self) -> list[str]:
        """What the data is, in a few words."""
        return [stream.about() for stream in (self._real, self._latents) if stream is not None]

    def close(self) -> None:
        """End the workers."""
        for stream in (self._real, self._latents):
            if stream is not None:
                stream.close()

    def state(self) -> list[list[int]]:
        """Where it is."""
        return [stream.state() for stream in (self._real, self._latents) if stream is not None]

    def restore(self, state: list[list[int]]) -> None:
        """Go on from a state."""
        for stream, position in zip((self._real, self._latents), state, strict=False):
            if stream is not None:
                stream.restore(position)
