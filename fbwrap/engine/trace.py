"""One look at a network: which layers run, in which order, on which shapes, at which cost.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> trace = trace_forward(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)), (torch.zeros(1, 1, 8, 8),))
    >>> [(call.name, call.outputs[()].shape, call.effects.overwritten) for call in trace.calls]
    [('0', (1, 4, 6, 6), True), ('1', (1, 4, 6, 6), False)]

The look runs the network once, in eval mode and without a graph, and leaves no trace: modes, buffers
and the state of the random numbers are as before.
"""

import collections
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .activations import Activations
from .context import bare
from .flops import FlopCounter
from .intercept import Around, wrapped
from .locks import locked
from .names import Path, entry, modules_of, names, unwrap
from .pytree import is_plain, leaves, lengths, map_tensors, storage_of, tensors, version_of
from .replay import ARGUMENTS, Effects, Watch
from .rng import RngState, same_rng
from .state import Place, Snapshot, every_place
from .training_mode import training_mode

_CHANNELS_LAST = (
    *(nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.RMSNorm, nn.RNNBase, nn.Transformer),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
_CHANNELS_FIRST = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    *(nn.ConvTranspose3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


@dataclass(frozen=True)
class TensorInfo:
    """Shape, type and place of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    finite: bool = True

    @property
    def is_feature(self) -> bool:
        """Whether a correction could be added to it: floating point, with a batch and channels."""
        return self.dtype.is_floating_point and len(self.shape) >= 2


class Batch(NamedTuple):
    """Which axis of a tensor is the batch, and how many rows of it each sample has (frames folded into the batch)."""

    axis: int = 0
    rows: int = 1


@dataclass
class Call:
    """One call of one layer. ``start`` and ``end`` count events; ``parent`` is the caller's place.

    ``effects``: what it does to tensors that others hold. ``entangled``: it overwrites its input or returns (part of)
    it, and others may hold that input: skipping the call would be noticed. ``plain``: all that it takes and returns
    can be seen. ``layout``: where its channels are; ``layout_known``: a layer says so. ``batches``: where the
    batch is in what it returned, if that is not the first axis (see :mod:`fbwrap.feedback.batch_axis`). ``alone``: its
    layer is called once. ``trunk``: it stands in no block of its own kind, only in ``nn.Sequential`` and wrappers.
    ``activates``: the number of the call whose output it is given after a nonlinearity that no layer is. ``made``: of
    several tensors that it returns, where the first feature is that it was not given, if no layer inside it that is
    called once returned that already; ``handed_on``: a later layer takes it.
    """

    name: str
    module: nn.Module
    index: int
    start: int
    parent: int | None
    end: int = -1
    outputs: dict[Path, TensorInfo] = field(default_factory=dict)
    inputs: dict[Path, TensorInfo] = field(default_factory=dict)
    lengths: dict[Path, int] = field(default_factory=dict)
    plain: bool = False
    effects: Effects = field(default_factory=Effects)
    entangled: bool = False
    flops_before: int = 0
    flops_after: int = 0
    layout: str = "channels_first"
    layout_known: bool = False
    batches: dict[Path, "Batch | None"] = field(default_factory=dict)
    alone: bool = True
    trunk: bool = True
    activates: int | None = None
    made: Path | None = None
    handed_on: bool = True

    @property
    def done(self) -> bool:
        """Whether the call returned."""
        return self.end >= 0


@dataclass
class Trace:
    """What one forward pass did. ``calls`` are in the order of their start, the root left out.

    ``moving``: parameters and buffers that it moved, in eval mode. ``attributes``: plain attributes that it set.
    ``layout``, ``batch``: of the sample in its output. ``answers``: the batch in its outputs, where it was tried out.
    ``outside``: kinds of layers that it called and that are none of its modules (in a plain list, say).
    """

    model: nn.Module
    calls: list[Call]
    output: Any = None
    outputs: dict[Path, TensorInfo] = field(default_factory=dict)
    random: bool = False
    moving: tuple[Place, ...] = ()
    attributes: tuple[str, ...] = ()
    flops: int = 0
    error: Exception | None = None
    method: str = "forward"
    layout: str = "channels_first"
    batch: Batch = field(default_factory=Batch)
    answers: dict[Path, Batch | None] = field(default_factory=dict)
    outside: tuple[str, ...] = ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of the sample with its channels, (N, C, …): of what the last layer returned, where the network itself
        flattens it or squeezes the channel axis away; () where nothing returned is a sample."""
        shape = _sample_shape([info.shape for info in self.outputs.values() if info.is_feature])
        if self.batch.axis == 1 and len(shape) == 3:
            return (shape[1], shape[2], shape[0])
        if self.layout == "channels_last" and len(shape) > 2:
            return (shape[0], shape[-1], *shape[1:-1])
        ended = sorted((call for call in self.calls if call.done and () in call.outputs), key=lambda call: -call.end)
        for last in (call.outputs[()].shape for call in ended[:1]):
            if shape and len(last) > len(shape) and last[0] == shape[0] and math.prod(last) == math.prod(shape):
                return last
        return shape

    def calls_of(self, module: nn.Module) -> list[Call]:
        """Finished calls of one module, in order."""
        return [call for call in self.calls if call.module is module and call.done]


def trace_forward(
    model: nn.Module,
    args: tuple[object, ...] = (),
    kwargs: Mapping[str, object] | None = None,
    *,
    may_fail: bool = False,
    method: str = "forward",
    activations: bool = False,
) -> Trace:
    """Run ``model`` once and note all that it does.

    Args:
        activations: whether to look for nonlinearities that no layer is (``Call.activates``).
        method: what is run, if not ``forward``: a VAE's ``"decode"``.
        may_fail: keep what was seen before an error (a discriminator that is to be stopped early may
            refuse the image size only later); the error is then in ``trace.error``.
    """
    net, kwargs = unwrap(model), dict(kwargs or {})
    known = {module: name for name, module in reversed(names(net).items())}  # a shared layer has its first name
    trace = Trace(net, [], method=method)
    alive: dict[int, list[tuple[Path, Tensor, int]]] = {}
    modules = modules_of(net)
    rng = RngState(device_of(net), (args, kwargs))
    start = rng.get()
    with (
        locked(net),
        bare(net),
        torch.inference_mode(False),
        torch.no_grad(),
        training_mode(modules, False),
        _state_restored(modules, trace),
        _outsiders(set(modules), trace),
        FlopCounter() as flops,
    ):
        args, kwargs = map_tensors(Tensor.clone, (args, kwargs))  # the network may write into them
        clock = _Clock([_memory((args, kwargs))], Activations() if activations else None)
        try:
            with wrapped({m: _watch(m, n, trace, clock, alive, flops) for m, n in known.items()}):
                trace.output = entry(net, method)(*args, **kwargs)
        except Exception as error:
            if not may_fail:
                raise
            trace.error = error
        finally:
            trace.random = not same_rng(start, rng.get())
            rng.set(start)
            trace.flops = flops.total
        trace.output = map_tensors(Tensor.clone, trace.output)  # it may be a buffer that is put back
    _complete(trace, alive, clock)
    return trace


def _sample_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The first one; of pictures of several sizes (N, C, …) the largest, as :func:`fbwrap.feedback.critic.image_of`."""
    first = shapes[0] if shapes else ()
    sizes = [shape for shape in shapes if shape[:2] == first[:2] and len(shape) == len(first) > 3]
    return max(sizes or [first], key=math.prod)


def _complete(trace: Trace, alive: Mapping[int, list[tuple[Path, Tensor, int]]], clock: "_Clock") -> None:
    """Note what only the whole pass tells: later writes, how often layers are called, where channels are."""
    trace.outputs = {path: info_of(tensor) for path, tensor in tensors(trace.output)}
    for place, returned in alive.items():
        late = {path: version_of(tensor) - version for path, tensor, version in returned}
        call = trace.calls[place]
        call.effects = replace(call.effects, later_writes={path: many for path, many in late.items() if many})
    often = collections.Counter(call.module for call in trace.calls if call.done)
    for call in trace.calls:
        call.alone = often[call.module] < 2
    _note_what_is_made(trace, alive, clock)
    for call in trace.calls:
        around = None if call.parent is None else trace.calls[call.parent]
        call.trunk = around is None or (around.trunk and (is_sequential(around.module) or _is_whole(around, trace)))
        call.layout, call.layout_known = _layout(call, trace.calls)


def _note_what_is_made(trace: Trace, alive: Mapping[int, list[tuple[Path, Tensor, int]]], clock: "_Clock") -> None:
    """Find ``Call.made``. All tensors are alive here, so that each has an identity of its own."""
    seen: set[int] = set()
    for place in sorted(alive, key=lambda each: trace.calls[each].end):
        first = clock.several.get(place)
        if first is not None and id(first) not in seen:
            path = next(path for path, tensor, _ in alive[place] if tensor is first)
            trace.calls[place].made = path if len(path) == 1 else None
            trace.calls[place].handed_on = place in clock.followed
        if trace.calls[place].alone:
            seen |= {id(tensor) for _, tensor, _ in alive[place]}


def _is_whole(call: Call, trace: Trace) -> bool:
    """Whether a call returns what the whole network returns: it is the network within a wrapper."""
    return [info.shape for info in call.outputs.values()] == [info.shape for info in trace.outputs.values()]


def info_of(tensor: Tensor) -> TensorInfo:
    """Shape, type and place of a tensor."""
    finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
    return TensorInfo(tuple(tensor.shape), tensor.dtype, tensor.device, finite)


def device_of(net: nn.Module) -> torch.device:
    """Where a network's first parameter or buffer is; the CPU where it has none."""
    held = itertools.chain(net.parameters(), net.buffers())
    return next((tensor.device for tensor in held), torch.device("cpu"))


@contextmanager
def _state_restored(modules: list[nn.Module], trace: Trace) -> Iterator[None]:
    """Put back all that the block moves, and note what it was: a network may move things in eval mode."""
    state = Snapshot(modules, every_place(modules))
    try:
        yield
    finally:
        trace.moving = tuple(state.moved())
        trace.attributes = tuple(dict.fromkeys(state.changed_attributes()))
        state.restore()


@contextmanager
def _outsiders(modules: set[nn.Module], trace: Trace) -> Iterator[None]:
    """Note the kinds of modules that this thread calls in the block and that are not among these."""
    found: dict[str, None] = {}
    here = threading.get_ident()

    def note(module: nn.Module, args: object) -> None:
        if module not in modules and threading.get_ident() == here and any(True for _ in module.parameters()):
            found[type(module).__name__] = None

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()
        trace.outside = tuple(found)


@dataclass
class _Clock:
    held: list[set[int]]
    activations: Activations | None
    now: int = 0
    open: list[int] = field(default_factory=list)
    count: dict[nn.Module, int] = field(default_factory=dict)
    several: dict[int, Tensor] = field(default_factory=dict)  # of calls that return several tensors the first new one
    followed: set[int] = field(default_factory=set)  # those of them whose feature a later call was given

    def tick(self) -> int:
        self.now += 1
        return self.now

    def given(self, arguments: object) -> None:
        """A call is about to be given these: which of several tensors are among them, in whatever shape."""
        waiting = {place: first for place, first in self.several.items() if place not in self.followed}
        for _, tensor in tensors(arguments) if waiting else ():
            for place, first in waiting.items():
                alike = tensor.dtype == first.dtype and tensor.numel() == first.numel()
                if alike and torch.equal(tensor.reshape(-1), first.reshape(-1)):
                    self.followed.add(place)


@contextmanager
def _entered(clock: _Clock, place: int, held: set[int]) -> Iterator[None]:
    clock.open.append(place)
    clock.held.append(held)
    try:
        yield
    finally:
        clock.open.pop()
        clock.held.pop()


def _memory(tree: object) -> set[int]:
    return {storage_of(tensor) for _, tensor in tensors(tree)}


def _is_seen(arguments: object) -> bool:
    """Whether all that a call is given can be seen; a generator of random numbers is put back by itself."""
    return all(is_plain(each) or isinstance(each, torch.Generator) for each in leaves(arguments))


def is_sequential(module: nn.Module) -> bool:
    """Whether a module hands each child's output to the next and to nothing else."""
    return type(module).forward is nn.Sequential.forward


def _watch(
    module: nn.Module,
    name: str,
    trace: Trace,
    clock: _Clock,
    alive: dict[int, list[tuple[Path, Tensor, int]]],
    flops: FlopCounter,
) -> Around:
    def around(forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        index = clock.count.get(module, 0)
        clock.count[module] = index + 1
        parent = clock.open[-1] if clock.open else None
        call = Call(name, module, index, clock.tick(), parent, flops_before=flops.total)
        call.inputs = {path: info_of(tensor) for path, tensor in tensors((args, kwargs))}
        place = len(trace.calls)
        trace.calls.append(call)
        if clock.activations is not None:
            call.activates = clock.activations.behind(parent, args[0] if args else None)
        watch, seen, held = Watch(args, kwargs), _is_seen((args, kwargs)), _memory((args, kwargs))
        clock.given((args, kwargs))
        with _entered(clock, place, held):
            output = forward(*args, **kwargs)
        call.effects = watch.effects(output)
        touched = watch.storages(call.effects)
        caller = trace.model if parent is None else trace.calls[parent].module
        outside = is_sequential(caller) and not call.effects.writes & {ARGUMENTS}
        call.entangled = bool(touched & clock.held[-1] if outside else call.effects.writes | call.effects.returns)
        call.end, call.flops_after = clock.tick(), flops.total
        if clock.activations is not None:
            clock.activations.ended(place, parent, output)
        call.plain = seen and is_plain(output)
        call.lengths = dict(lengths(output)) | {("", *path): many for path, many in lengths((args, kwargs))}
        for path, tensor in tensors(output):
            call.outputs[path] = info_of(tensor)
            new = path and call.outputs[path].is_feature and storage_of(tensor) not in held
            if new and place not in clock.several:
                clock.several[place] = tensor
            alive.setdefault(place, []).append((path, tensor, version_of(tensor)))
        return output

    return around


def _layout(call: Call, calls: list[Call]) -> tuple[str, bool]:
    """Where a call's output has its channels; and whether that is known, by the last layer inside or before it that
    says so."""
    shapes = [info.shape for info in call.outputs.values() if len(info.shape) >= 3]
    if not shapes:
        return "channels_first", False
    shape = shapes[0]
    for other in sorted((c for c in calls if c.done and c.end <= call.end), key=lambda c: -c.end):
        maps = any(len(info.shape) >= 3 for info in other.outputs.values())  # what gives vectors tells nothing
        if maps and isinstance(other.module, _CHANNELS_LAST) and shape[-1] in _widths(other.module):
            return "channels_last", True
        if isinstance(other.module, _CHANNELS_FIRST) and shape[1] in _widths(other.module):
            return "channels_first", True
    return "channels_first", False


def sample_layout(shape: tuple[int, ...], made: Trace, asked: Trace | None) -> str:
    """Where a sample has its channels: as D's layer that takes it has them, or G's that made it.

    Args:
        shape: of the sample, in G's output.
    """
    for call in asked.calls if asked else ():
        if len(shape) >= 3 and any(info.shape == shape for info in call.inputs.values()):
            if isinstance(call.module, _CHANNELS_FIRST) and shape[1] == _width_in(call.module):
                return "channels_first"
            if isinstance(call.module, _CHANNELS_LAST) and shape[-1] == _width_in(call.module):
                return "channels_last"
    makers = [call for call in made.calls if call.done and any(info.shape == shape for info in call.outputs.values())]
    last = max(makers, key=lambda call: (() in call.outputs, call.end), default=None)  # one that returns it alone
    return last.layout if last is not None and last.layout_known else "channels_first"


def _width_in(module: nn.Module) -> int | None:
    for name in ("in_channels", "in_features", "input_size", "num_features", "embed_dim", "d_model"):
        if isinstance(value := getattr(module, name, None), int):
            return value
    return next(iter(_widths(module)), None)


def _widths(module: nn.Module) -> set[int]:
    """How many channels a layer's outputs may have."""
    if isinstance(module, nn.RNNBase):
        both = 2 if module.bidirectional else 1
        return {both * (module.proj_size or module.hidden_size), module.hidden_size, module.proj_size} - {0}
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        return {module.self_attn.embed_dim}
    names = ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim", "embed_dim", "d_model")
    for name in names:
        if isinstance(value := getattr(module, name, None), int):
            return {value}
    shape = getattr(module, "normalized_shape", None)
    return {int(shape[-1])} if shape else set()
