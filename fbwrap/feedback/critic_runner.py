"""D as the loop uses it: asked in the mode that is wanted, read at its taps, left as it was.

Examples:
    >>> critic_runner = CriticRunner(D, trace, CriticCall(critic_input))           # doctest: +SKIP
    >>> signals = critic_runner.signals({0: sources}, y, (z,), {})                 # doctest: +SKIP
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..engine.intercept import Tap, read
from ..engine.names import Ref, modules_of, names, unwrap
from ..engine.pytree import map_tensors, tensors
from ..engine.state import Moving, Place
from ..engine.trace import Trace
from ..engine.training_mode import training_mode
from ..errors import CriticError
from .critic import CriticInput, call, image_of, response_of, sized
from .features import to_map
from .links import Source
from .packs import filled, of_samples


@dataclass(frozen=True)
class CriticCall:
    """How D is asked; the same words as of :func:`fbwrap.attach`.

    Attributes:
        critic_input: what D is called with, given G's output and inputs.
        response: a path to D's response in what it returns, or a function of that; None: it is all that D returns.
        size: (``critic_size``) D's attribute of the only height that it takes; see
            :class:`~fbwrap.adapter.CriticFamily`.
        mode: (``critic_mode``) ``"eval"``, or ``"inherit"``: the mode that D is in; what it moves goes on from step
            to step, and is put back after the call.
        detach_signals: whether no gradient goes back through D to the samples.
        pack: samples that D judges as one (:mod:`fbwrap.feedback.packs`).
    """

    critic_input: CriticInput
    response: str | Callable[[Any], Tensor] | None = None
    size: str | None = None
    mode: Literal["eval", "inherit"] = "eval"
    detach_signals: bool = True
    pack: int = 1


class CriticRunner:
    """Asks one discriminator (or none, where every source is the image).

    Args:
        trace: what D did at attach, perhaps with another D of the same architecture.
        how: how it is called and read.
    """

    def __init__(self, discriminator: nn.Module | None, trace: Trace | None, how: CriticCall):
        self.net = discriminator
        self._trace, self.how = trace, how
        self._layers = names(discriminator) if discriminator is not None else {}
        modules = modules_of(unwrap(discriminator)) if discriminator is not None else []
        self._modules, self._moving = modules, Moving(modules, self._moving_in_eval())
        self._restores = True  # whether each pass puts back what D moves

    def signals(
        self,
        wanted: Mapping[int, tuple[Source, ...]],
        output: object,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> dict[int, list[Tensor]]:
        """What D sees in G's output: the signals of each link, as maps. D stops after its last tap."""
        sources = [source for mine in wanted.values() for source in mine]
        taps = {s.name: self._tap(s.ref) for s in sources if s.ref is not None}
        respond = any(source.name == "response" for source in sources)
        found: dict[str, Tensor] = {}
        how = self.how
        with torch.set_grad_enabled(torch.is_grad_enabled() and not how.detach_signals):
            if any(source.name == "image" for source in sources):
                found["image"] = image_of(output)
            if taps or respond:
                given = self._given(output, args, kwargs)
                size = None if respond else how.size
                with (
                    self._as_asked(),
                    sized(unwrap(self.net) if self.net is not None else None, size, given),
                ):
                    values, answer = read(
                        lambda: self._ask(given),
                        list(dict.fromkeys(taps.values())),
                        stop=not respond and not torch.compiler.is_compiling(),
                    )
                    found |= {name: self._reached(name, values, tap) for name, tap in taps.items()}
                    if respond:
                        found["response"] = response_of(answer, how.response).clone()
            if how.pack > 1:
                count = len(image_of(output))
                found |= {name: of_samples(v, count, how.pack) for name, v in found.items() if name != "image"}
        if how.detach_signals:
            found = {name: value.detach() for name, value in found.items()}
        return {link: [to_map(found[s.name], s.form) for s in mine] for link, mine in wanted.items()}

    @contextmanager
    def one_rollout(self) -> Iterator["CriticRunner"]:
        """D for all steps of one call of the loop. In the mode that it is in, what it moves (the vectors of spectral
        norm) goes on from step to step, as in a loop written by hand, and is put back in the end."""
        if self.how.mode == "eval" or self.net is None:
            yield self
            return
        other = copy(self)
        other._restores = False
        with self._state_restored():
            yield other

    def with_graph(self) -> "CriticRunner":
        """The same, whose signals carry a gradient."""
        other = copy(self)
        other.how = replace(self.how, detach_signals=False)
        return other

    def respond(self, output: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Tensor:
        """D's response to G's output: all of D. Of a D that judges packs of samples, one for each pack."""
        given = self._given(output, args, kwargs)
        with self._as_asked():
            return response_of(self._ask(given), self.how.response).clone()  # it may be a buffer that is put back

    def _given(self, output: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """What D is called with: a copy, for D may write into it."""
        if self.how.pack > 1:
            output, args, kwargs = filled((output, args, kwargs), len(image_of(output)), self.how.pack)
        return map_tensors(Tensor.clone, self.how.critic_input(output, *args, **kwargs))

    def _ask(self, given: object) -> object:
        if self.net is None:
            raise CriticError("The loop has no discriminator to ask. Attach with one.")
        try:
            return call(unwrap(self.net), given)
        except (RuntimeError, ValueError, TypeError) as error:
            shapes = [tuple(tensor.shape) for _, tensor in tensors(given)]
            raise CriticError(
                f"D refuses its input (shapes {shapes}): {error}. Attach with critic_input=, which makes D's "
                "input, or give G an input for which it makes samples of D's size."
            ) from error

    def _tap(self, ref: Ref) -> Tap:
        if ref.name not in self._layers:
            raise CriticError(
                f"The discriminator has no layer {ref.name!r}, which a link looks at. Use one of the same "
                "architecture, or attach again."
            )
        return Tap(self._layers[ref.name], ref.call or 0, ref.path, ref.at)

    def _reached(self, name: str, values: dict[Tap, Tensor], tap: Tap) -> Tensor:
        if tap not in values:
            raise CriticError(
                f"D did not call its layer {name!r} this time, but did when the loop was attached. Link to a "
                "layer that D always calls."
            )
        return values[tap]

    @contextmanager
    def _as_asked(self) -> Iterator[None]:
        """D in the mode that is wanted; what it moves is put back."""
        with ExitStack() as stack:
            if self.how.mode == "eval":
                stack.enter_context(training_mode(self._modules, False))
            if self._restores:
                stack.enter_context(self._state_restored())
            yield

    @contextmanager
    def _state_restored(self) -> Iterator[None]:
        state = self._moving.note()
        try:
            yield
            self._moving.learn(state)
        finally:
            state.restore()

    def _moving_in_eval(self) -> list[Place]:
        """What D moves even in eval mode, in the D in use."""
        if self._trace is None or not self._trace.moving or self.net is None:
            return []
        places = {module: place for place, module in enumerate(modules_of(self._trace.model))}
        mine = modules_of(unwrap(self.net))
        return [(mine[places[module]], name) for module, name in self._trace.moving]
