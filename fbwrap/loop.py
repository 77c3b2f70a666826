"""The feedback loop: G, then D's features correct G, ``steps`` times.

Example:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 8))
    >>> x = torch.randn(2, 3, 8, 8)
    >>> loop = fbwrap.attach(G, D, [("1", "1")], example=x, steps=2)
    >>> torch.equal(loop(x), G(x))                      # a fresh head changes nothing
    True
    >>> with loop.settings(strength=0.5, steps=3):
    ...     len(loop.rollout(x).outputs)
    4

AFL (Eq. 3, 6):  y_0 = G(x),  y_t = G(x, α·E(y_{t-1})).
FAL (Eq. 6, 10): h_0 = G_e(x),  h_t = h_{t-1} + α·f(h_{t-1}, y_{t-1}, r_{t-1}),  y_t = G_d(h_t).
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .corrections import Corrections
from .critic import CriticInput, call, image_of, response_of
from .dice import Dice
from .errors import CriticError, DetachedError, SettingError
from .export import export
from .links import Connection
from .naming import names, unwrap
from .plan import Plan, schedule
from .probe import Trace, device_of
from .rollout import LinkHandle, Rollout
from .settings import Strength, check_steps, check_strength, is_zero
from .signals import to_map
from .surroundings import eager, lock_of, outside_inference_mode, usable
from .tape import Key, Replay, Schedule, Tap, buffers_of, kept_buffers, modes, put_back, read, wrapped
from .trees import map_tensors, tensors

logger = logging.getLogger("fbwrap")


class FeedbackLoop(nn.Module):
    """G and D with feedback modules between them. Made by :func:`fbwrap.attach`.

    Calling it takes and returns what G takes and returns. ``parameters()``, ``state_dict()``,
    ``train()`` and ``to()`` are those of the feedback modules alone: G and D are never registered
    inside it. It starts in eval mode.

    Attributes:
        feedback: the feedback modules, one per link.
        plan: what is run and what it costs; printable.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        connections: Sequence[Connection],
        modules: Sequence[nn.Module],
        plan: Plan,
        trace: Trace,
        *,
        critic_input: CriticInput,
        response: str | Callable[[Any], Tensor] | None,
        first: Literal["base", "zeros"],
        critic_mode: Literal["eval", "inherit"],
        detach_signals: bool,
        steps: int,
        strength: Strength,
        facts: Mapping[str, Any],
    ):
        super().__init__()
        self.feedback = nn.ModuleList(modules)
        self.connections = tuple(connections)
        self.plan = plan
        self.facts = dict(facts)
        self.detach_signals = detach_signals
        self.critic_mode = critic_mode
        self._networks: tuple[nn.Module, nn.Module | None] = (generator, discriminator)
        self._trace = [trace]  # in a list: its modules must not be registered
        self._critic_input, self._response, self._first = critic_input, response, first
        self._strengths: list[Strength] = [c.strength for c in connections]
        self._strength = check_strength(strength)
        self._steps = check_steps(steps)
        self._mutated: set[Key] = set()
        self._critic_mutated: set[Key] = set()
        self._schedules: dict[tuple[int, ...], Schedule] = {}
        self._taps: dict[int, dict[str, Tap]] = {}
        self._lists: dict[int, list[nn.Module]] = {}
        self._detached = False
        self._inside = threading.local()
        self._uninstall: list[ExitStack] = []
        self._note_mutations(trace)
        self.eval()

    # -- settings ---------------------------------------------------------------------------------

    @property
    def generator(self) -> nn.Module:
        """The user's generator, as given."""
        return self._networks[0]

    @property
    def discriminator(self) -> nn.Module | None:
        """The D in use: the user's own, or the loop's copy once a head or a recipe changed it."""
        return self._networks[1]

    @property
    def strength(self) -> Strength:
        """α for all links: a number, a tensor with one value per sample, or a spatial mask."""
        return self._strength

    @strength.setter
    def strength(self, value: Strength) -> None:
        self._strength = check_strength(value)

    @property
    def steps(self) -> int:
        """T, the number of feedback steps."""
        return self._steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._steps = check_steps(value)

    def __getitem__(self, key: str | int) -> LinkHandle:
        if isinstance(key, int):
            if not -len(self.connections) <= key < len(self.connections):
                raise SettingError(f"There is no link {key}: the loop has {len(self.connections)}.")
            return self._handle(key % len(self.connections))
        found = [i for i, c in enumerate(self.connections) if key in (str(c.target), c.target.name)]
        if len(found) != 1:
            known = ", ".join(f"{i}: {c.target}" for i, c in enumerate(self.connections))
            many = f"{len(found)} links correct" if found else "No link corrects"
            raise SettingError(f"{many} {key!r}. Use the number of one of the links {known}.")
        return self._handle(found[0])

    def _handle(self, index: int) -> LinkHandle:
        return LinkHandle(self.connections[index], self.feedback[index], self._strengths, index)

    def __len__(self) -> int:
        return len(self.connections)

    @contextmanager
    def settings(
        self,
        *,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        steps: int | None = None,
    ) -> Iterator["FeedbackLoop"]:
        """Other settings within a ``with`` block; what was before comes back, also after an error.

        Args:
            strength: for all links, or ``{link: strength}`` for some.
            steps: T.
        """
        before = (self._strength, list(self._strengths), self._steps)
        try:
            if isinstance(strength, Mapping):
                for key, value in strength.items():
                    self[key].strength = value
            elif strength is not None:
                self.strength = strength
            if steps is not None:
                self.steps = steps
            yield self
        finally:
            self._strength, self._strengths, self._steps = before

    # -- running ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """y_T for G's own inputs; returns what G returns."""
        return self._roll(args, kwargs, self.steps, None, keep=False)[-1]

    def rollout(
        self,
        *args: Any,
        steps: int | None = None,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        reference: Any = None,
        **kwargs: Any,
    ) -> Rollout:
        """The whole sequence y_0 … y_T.

        Args:
            steps, strength: for this call only.
            reference: what D looks at in place of the generated sample, at every step (AFL's feedback
                switching, Eq. 7: y = G(x, α·E(reference))). Of the shape of G's output.
        """
        with self.settings(strength=strength, steps=steps):
            outputs = self._roll(args, kwargs, self.steps, reference, keep=True)
        return Rollout(tuple(outputs), lambda output: self.respond(output, *args, **kwargs))

    def respond(self, output: Any, *args: Any, **kwargs: Any) -> Tensor:
        """D's response to ``output``, which G made of ``args`` and ``kwargs``: all of D, no graph."""
        with self._running(), torch.no_grad(), self._critic_as_asked():
            given = self._critic_input(output, *args, **kwargs)
            return response_of(self._call_critic(given), self._response)

    @contextmanager
    def installed(self) -> Iterator["FeedbackLoop"]:
        """Within the block, the generator itself runs the loop: ``G(x)`` is ``loop(x)``.

        For somebody else's inference code, which calls G and knows nothing of fbwrap.
        """
        self._check_attached()

        def around(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            inside = getattr(self._inside, "depth", 0)
            return forward(*args, **kwargs) if inside else self(*args, **kwargs)

        with ExitStack() as stack:
            stack.enter_context(wrapped({unwrap(self.generator): around}, any_thread=True))
            self._uninstall.append(stack)
            try:
                yield self
            finally:
                self._uninstall.remove(stack)

    def detach(self) -> None:
        """Let go of G and D. They are what they were before :func:`fbwrap.attach`. Idempotent."""
        self._detached = True
        for stack in list(self._uninstall):
            stack.close()

    def __enter__(self) -> "FeedbackLoop":
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def save_pretrained(self, folder: Any, **options: Any) -> Any:
        """Write the head to a folder: see :func:`fbwrap.head.save_pretrained`."""
        from .head import save_pretrained

        return save_pretrained(self, folder, **options)

    def export(self, *example: Any, **named: Any) -> Any:
        """G, D and the head in one graph: a ``torch.export.ExportedProgram`` of ``loop(*example)``.

        The loop is unrolled with the steps and strengths that it has now. Prefixes that are computed
        again and D's unused tail are in the graph as written; compilers remove them.
        """

        self._check_attached()
        return export(self, self.feedback, self.generator, self.discriminator, example, named)

    def use_discriminator(self, discriminator: nn.Module) -> None:
        """Look with another D of the same architecture; the one that was in use stays as it is."""
        self._networks = (self.generator, discriminator)
        self._taps.clear()
        self._lists.clear()
        self._critic_mutated.clear()

    def __repr__(self) -> str:
        state = "detached" if self._detached else f"steps={self.steps}, strength={self.strength}"
        return f"FeedbackLoop({state})\n{self.plan}"

    # -- the algorithm ----------------------------------------------------------------------------

    def _roll(self, args: tuple[Any, ...], kwargs: dict[str, Any], steps: int, reference: Any, keep: bool) -> list[Any]:
        strengths = [self._alpha(index) for index in range(len(self.connections))]
        active = tuple(i for i, alpha in enumerate(strengths) if not is_zero(alpha))
        if steps == 0 or not active:
            with self._running():
                return [unwrap(self.generator)(*args, **kwargs)] * (steps + 1)
        with self._running(), outside_inference_mode():
            args, kwargs = usable((args, kwargs))
            feedback = Corrections(self.connections, self.feedback, active, strengths)
            training = self._training()
            start = buffers_of(training)
            with self._passes(active, args, kwargs, bool(training)).installed() as passes:
                if self._first == "zeros":
                    output = feedback.run(passes.first)
                    outputs = [map_tensors(torch.zeros_like, output), output]
                else:
                    outputs = [passes.first(feedback.observe if feedback.needs_previous else None)]
                while len(outputs) <= steps:
                    if reference is None or not feedback.signals:
                        seen = outputs[-1] if reference is None else reference
                        feedback.signals = self._look(active, seen, args, kwargs)
                    with kept_buffers(training):
                        put_back(start)
                        output = feedback.run(passes.again)
                    outputs = [*outputs, output] if keep else [None] * len(outputs) + [output]
            return outputs

    def _passes(self, active: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any], training: bool) -> Replay:
        net, trace = unwrap(self.generator), self._trace[0]
        sites = [self.connections[i].site for i in active]
        if active not in self._schedules:
            self._schedules[active] = schedule(trace, sites)
        fresh = [(args, kwargs)]
        if trace.mutates_input:
            fresh.append(map_tensors(Tensor.clone, (args, kwargs)))

        def run() -> Any:
            positional, named = fresh[0]
            if trace.mutates_input:
                fresh[0] = map_tensors(Tensor.clone, fresh[1])
            return net(*positional, **named)

        if torch.compiler.is_compiling():
            return Replay(run, sites, Schedule(), self._mutated, None, False)
        random = trace.random or training
        dice = Dice(device_of(net), (args, kwargs))
        return Replay(run, sites, self._schedules[active], self._mutated, dice, random)

    def _look(
        self, active: tuple[int, ...], output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[int, list[Tensor]]:
        """What D sees: the signals of every active link, as maps."""
        sources = [source for i in active for source in self.connections[i].sources]
        taps = {s.name: self._tap(s.name, s.ref) for s in sources if s.ref is not None}
        respond = any(source.name == "response" for source in sources)
        found: dict[str, Tensor] = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_signals):
            if any(source.name == "image" for source in sources):
                found["image"] = image_of(output)
            if taps or respond:
                given = self._critic_input(output, *args, **kwargs)
                with self._critic_as_asked():
                    values, answer = read(
                        lambda: self._call_critic(given),
                        list(dict.fromkeys(taps.values())),
                        self._critic_mutated,
                        stop=not respond and not torch.compiler.is_compiling(),
                    )
                found |= {name: self._reached(name, values, tap) for name, tap in taps.items()}
                if respond:
                    found["response"] = response_of(answer, self._response)
        if self.detach_signals:
            found = {name: value.detach() for name, value in found.items()}
        return {i: [to_map(found[s.name], s.form) for s in self.connections[i].sources] for i in active}

    def _reached(self, name: str, values: dict[Tap, Tensor], tap: Tap) -> Tensor:
        if tap not in values:
            raise CriticError(
                f"D did not reach its layer {name!r} in this pass, though it did when the loop was "
                "attached. Tap a layer that D always calls."
            )
        return values[tap]

    def _tap(self, name: str, ref: Any) -> Tap:
        critic = self.discriminator
        if critic is None:
            raise CriticError("The loop has no discriminator to ask. Attach with one.")
        taps = self._taps.setdefault(id(critic), {})
        if name not in taps:
            taps[name] = Tap(names(critic)[ref.name], ref.call or 0, ref.path)
        return taps[name]

    def _call_critic(self, given: Any) -> Any:
        critic = self.discriminator
        if critic is None:
            raise CriticError("The loop has no discriminator to ask. Attach with one.")
        try:
            return call(unwrap(critic), given)
        except (RuntimeError, ValueError, TypeError) as error:
            shapes = [tuple(tensor.shape) for _, tensor in tensors(given)]
            raise CriticError(
                f"D refuses what it was given (shapes {shapes}): {error}. Say with critic_input= what D "
                "is called with, or give G an input whose output has the size that D was built for."
            ) from error

    # -- surroundings -----------------------------------------------------------------------------

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._check_attached()
        if torch.compiler.is_compiling():
            yield
            return
        with lock_of(unwrap(self.generator)), eager((*self._layers(0), *self._layers(1))):
            self._inside.depth = getattr(self._inside, "depth", 0) + 1
            try:
                yield
            finally:
                self._inside.depth -= 1

    @contextmanager
    def _critic_as_asked(self) -> Iterator[None]:
        modules = self._layers(1)
        with ExitStack() as stack:
            if self.critic_mode == "eval":
                stack.enter_context(modes(modules, False))
            else:
                stack.enter_context(kept_buffers([m for m in modules if m.training]))
            yield

    def _layers(self, which: int) -> list[nn.Module]:
        """All modules of G (0) or D (1), listed once."""
        if which not in self._lists:
            net = self._networks[which]
            self._lists[which] = list(unwrap(net).modules()) if net is not None else []
        return self._lists[which]

    def _training(self) -> list[nn.Module]:
        return [module for module in self._layers(0) if module.training]

    def _check_attached(self) -> None:
        if self._detached:
            raise DetachedError("This loop was detached. Attach again: fbwrap.attach(G, D, layers).")

    def _alpha(self, index: int) -> tuple[Strength, ...]:
        """The factors of a link's strength, those that are 1 left out."""
        factors = (self._strength, self._strengths[index])
        return tuple(f for f in factors if isinstance(f, Tensor) or f != 1.0)

    def _note_mutations(self, trace: Trace) -> None:
        self._mutated |= {(call.module, call.index) for call in trace.calls if call.mutated}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_inside"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._inside = threading.local()
