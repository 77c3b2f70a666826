"""The feedback loop: G, then D's features correct G, ``steps`` times.

Examples:
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
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..engine.context import ALONE, eager, outside_inference_mode, rolling
from ..engine.locks import locked
from ..engine.names import entry, modules_of, unwrap
from ..engine.replay import Schedule
from ..engine.trace import Trace
from ..engine.training_mode import training_mode
from ..errors import DetachedError, HeadError, SettingError, UnsupportedError
from .critic import CriticInput
from .critic_runner import CriticRunner
from .export import export
from .facts import Facts
from .install import replace_forward, retarget_optimizer
from .latents import Latents, read_latents
from .links import Connection
from .plan import Plan
from .rollout import LinkHandle, Rollout
from .settings import Settings, Strength, ThreadSettings, check_steps, check_strength
from .unroll import Unroller

logger = logging.getLogger("fbwrap")


class Loop(nn.Module):
    """G and D with feedback modules between them: all of :class:`fbwrap.FeedbackLoop` but saving it.

    Calling it takes and returns what G takes and returns. ``parameters()``, ``state_dict()``,
    ``train()`` and ``to()`` are those of the feedback modules alone: G and D are never registered
    inside it. It starts in eval mode.

    Attributes:
        feedback: the feedback modules, one per link.
        plan: what is run and what it costs; printable.
        facts: what it was made from and trained on (:class:`~fbwrap.feedback.facts.Facts`).
        latents: how G's inputs are distributed, for what draws them (:mod:`fbwrap.feedback.latents`); None: nobody
            said.
        update_statistics: whether a call moves G's batch statistics (and what else G keeps in buffers) as one call of
            G does. False, but while a recipe trains G: no pass of a loop then moves a buffer of G or D.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None,
        connections: Sequence[Connection],
        modules: Sequence[nn.Module],
        plan: Plan,
        traces: tuple[Trace, Trace | None],
        prefix: Schedule,
        *,
        critic_input: CriticInput,
        response: str | Callable[[Any], Tensor] | None,
        critic_size: str | None,
        first: Literal["base", "zeros"],
        critic_mode: Literal["eval", "inherit"],
        detach_signals: bool,
        steps: int,
        strength: Strength,
        replay: bool,
        facts: Facts,
    ):
        super().__init__()
        self.feedback = nn.ModuleList(modules)
        self.connections = tuple(connections)
        self.plan = plan
        self.facts = facts
        self.detach_signals = detach_signals
        self.critic_mode = critic_mode
        self._generator = (generator,)  # in a tuple: it must not be registered
        self._traces = traces
        self.critic_input, self.response, self._first = critic_input, response, first
        self._critic_size = critic_size
        self.use_discriminator(discriminator)
        strengths = tuple(check_strength(connection.strength) for connection in connections)
        self._settings = ThreadSettings(Settings(check_strength(strength), strengths, check_steps(steps)))
        self._unroller = Unroller(generator, traces[0], self.connections, first, prefix, replay)
        self._latents: Latents | None = None
        self.update_statistics = False
        self._detached = False
        self._inside = threading.local()
        self._uninstall: list[ExitStack] = []
        self._frozen: list[nn.Parameter] = []
        self._installed: ExitStack | None = None
        self._hosted = False
        self._told_mode = False
        self.eval()

    # -- settings ---------------------------------------------------------------------------------

    @property
    def generator(self) -> nn.Module:
        """The user's generator, as given."""
        return self._generator[0]

    @property
    def traces(self) -> tuple[Trace, Trace | None]:
        """What G and D did on the example."""
        return self._traces

    @property
    def method(self) -> str:
        """The method of the generator that generates: ``"forward"`` if it is called."""
        return self._traces[0].method

    @property
    def discriminator(self) -> nn.Module | None:
        """The D in use: the user's own, or the loop's copy once a head or a recipe changed it."""
        return self._critic_runner.net

    @property
    def strength(self) -> Strength:
        """α for all links: a number, a tensor with one value per sample, or a spatial mask."""
        return self._settings.now.strength

    @strength.setter
    def strength(self, value: Strength) -> None:
        self._settings.set(replace(self._settings.now, strength=check_strength(value)))

    @property
    def steps(self) -> int:
        """T, the number of feedback steps."""
        return self._settings.now.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._settings.set(replace(self._settings.now, steps=check_steps(value)))

    @property
    def replay(self) -> bool:
        """Whether what cannot change is computed once in a call. Set it to False for a G that writes into tensors
        behind torch's back (``.data``, NumPy views, kernels that count no versions)."""
        return self._unroller.replay

    @replay.setter
    def replay(self, value: bool) -> None:
        self._unroller.replay = bool(value)

    @property
    def latents(self) -> Latents | None:
        """How G's inputs are distributed (:mod:`fbwrap.feedback.latents`): ``"uniform:-1:1"``,
        ``["normal", "labels:0:9"]``; None: nobody has said. A head keeps it; the command line, the
        page and the card draw so."""
        return self._latents

    @latents.setter
    def latents(self, value: Latents | None) -> None:
        self._latents = None if value is None else read_latents(value)

    def note(self, **facts: Any) -> None:
        """Put down what is now known: ``loop.note(trained_on={"data": "faces"})``; names as of ``facts``."""
        self.facts = replace(self.facts, **facts)

    def __getitem__(self, key: str | int) -> LinkHandle:
        index = self._index(key)
        return LinkHandle(self.connections[index], self.feedback[index], self._settings, index)

    def _index(self, key: str | int) -> int:
        if isinstance(key, int):
            if not -len(self.connections) <= key < len(self.connections):
                raise SettingError(f"There is no link {key}: the loop has {len(self.connections)}.")
            return key % len(self.connections)
        found = [i for i, c in enumerate(self.connections) if key in (str(c.target), c.target.name)]
        if len(found) != 1:
            known = ", ".join(f"{i}: {c.target}" for i, c in enumerate(self.connections))
            many = f"{len(found)} links correct" if found else "No link corrects"
            raise SettingError(f"{many} {key!r}. Use the number of one of the links {known}.")
        return found[0]

    def __len__(self) -> int:
        return len(self.connections)

    @contextmanager
    def settings(
        self,
        *,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        steps: int | None = None,
    ) -> Iterator[Self]:
        """Other settings within a ``with`` block, for the code in it: other threads keep theirs. What was before comes
        back, also after an error.

        Args:
            strength: for all links, or ``{link: strength}`` for some.
            steps: T.
        """
        with self._settings.block():
            if isinstance(strength, Mapping):
                for key, value in strength.items():
                    self[key].strength = value
            elif strength is not None:
                self.strength = strength
            if steps is not None:
                self.steps = steps
            yield self

    # -- running ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """y_T for G's own inputs; returns what G returns."""
        outputs, _ = self._roll(args, kwargs, self.steps, None, keep=False)
        return outputs[-1]

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
                switching, Eq. 7: y = G(x, α·E(reference))). Of the shape of G's output; one row serves all samples.
        """
        outputs, from_zeros = self._roll(
            args, kwargs, self.steps if steps is None else check_steps(steps), reference, keep=True, strength=strength
        )
        return Rollout(tuple(outputs), lambda output: self.respond(output, *args, **kwargs), from_zeros)

    def respond(self, output: Any, *args: Any, **kwargs: Any) -> Tensor:
        """D's response to ``output``, which G made of ``args`` and ``kwargs``: all of D, no graph.
        A head that holds the beginning of its D alone raises: the D that was given ends in other weights."""
        if self.facts.critic_in_part:
            raise HeadError(
                "This head holds the beginning of its D, all that feedback needs; what the trained D answers cannot be "
                "told. Save the loop that was trained with save_pretrained(folder, discriminator='all')."
            )
        with self._running(), torch.no_grad():
            return self._critic_runner.respond(output, args, kwargs, self.critic_mode)

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Within the block, the generator itself runs the loop: ``G(x)`` is ``loop(x)``.

        For somebody else's inference code, which calls G and knows nothing of fbwrap.
        """
        self._check_attached()
        with replace_forward(
            *(self.generator, self.method, self._as_guest, self._inside, self._locked),
            loop=self._settings.number,
            connections=self.connections,
        ) as stack:
            self._uninstall.append(stack)
            try:
                yield self
            finally:
                self._uninstall.remove(stack)

    def install(self) -> Self:
        """From here to :meth:`detach` (or :meth:`uninstall`) the generator itself runs the loop: one line for
        a script that calls G and knows nothing of fbwrap. Once is enough."""
        if self._installed is None:
            with ExitStack() as stack:
                stack.enter_context(self.installed())
                self._installed = stack.pop_all()
        return self

    def uninstall(self) -> None:
        """Undo :meth:`install`; the loop can still be called."""
        if self._installed is not None:
            self._installed.close()
            self._installed = None

    def train_with(self, optimizer: torch.optim.Optimizer) -> Self:
        """Let somebody's optimizer train the feedback modules in place of G: one line for a training script.

        G's parameters leave it and the modules' take their place in the group that held them (rate, betas, schedules
        and scalers stay). Until :meth:`detach` G is frozen, and run in eval mode by the loop, whose modules are in
        the mode that the script puts G into. Afterwards the optimizer still holds the modules.
        """
        self._check_attached()
        self._frozen += retarget_optimizer(optimizer, self.generator, self)
        self._hosted = True
        return self.train()

    def _as_guest(self, *args: Any, **kwargs: Any) -> Any:
        """The loop as the script's G: where a script trains it, its modules follow G's mode."""
        with training_mode(list(self.feedback.modules()) if self._hosted else [], unwrap(self.generator).training):
            return self(*args, **kwargs)

    def detach(self) -> None:
        """Let go of G and D. They are what they were before :func:`fbwrap.attach`. Idempotent."""
        self._detached = True
        self.uninstall()
        for stack in list(self._uninstall):
            stack.close()
        self._hosted = False
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def export(self, *example: Any, **named: Any) -> Any:
        """G, D and the head in one graph: a ``torch.export.ExportedProgram`` of ``loop(*example)``.

        The loop is unrolled with the steps and strengths that it has now. Prefixes that are computed
        again and D's unused tail are in the graph as written; compilers remove them.
        """
        self._check_attached()
        return export(self, self.feedback, self.generator, self.discriminator, example, named)

    def use_discriminator(self, discriminator: nn.Module | None) -> None:
        """Look with another D of the same architecture; the one that was in use stays as it is."""
        self.note(critic_in_part=False)
        trace, size = self._traces[1], self._critic_size
        self._critic_runner = CriticRunner(discriminator, trace, self.critic_input, self.response, size)

    def __repr__(self) -> str:
        state = "detached" if self._detached else f"steps={self.steps}, strength={self.strength}"
        return f"{type(self).__name__}({state})\n{self.plan}"

    # -- the algorithm ----------------------------------------------------------------------------

    def _roll(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        steps: int,
        reference: Any,
        keep: bool,
        strength: Strength | Mapping[str | int, Strength] | None = None,
    ) -> tuple[list[Any], bool]:
        alphas = self._alphas(strength)
        self._tell_mode()
        with self._running(), outside_inference_mode(), torch.no_grad() if self._untracked() else nullcontext():
            return self._unroller.run(
                *(self._generate, self.feedback, self._critic_runner, self, (args, kwargs), steps, alphas),
                reference=reference,
                keep=keep,
                update_statistics=self.update_statistics,
            )

    def _untracked(self) -> bool:
        """Whether G or D was made within inference mode: no gradient passes through it."""
        nets = [net for net in (self.generator, self.discriminator) if net is not None]
        first = [next(unwrap(net).parameters(), None) for net in nets]
        return not torch.compiler.is_compiling() and any(p is not None and p.is_inference() for p in first)

    def _tell_mode(self) -> None:
        """Say once that G is in another mode than the head was trained with."""
        mode, training = self.facts.generator_mode, unwrap(self.generator).training
        if mode and training is not (mode == "train") and not self._told_mode and not torch.compiler.is_compiling():
            self._told_mode = True
            logger.warning(
                "G is in %s mode, and this head was trained with G in %s mode: samples differ (batch norm, dropout). "
                "If that is not meant, add G.%s().", "train" if training else "eval", mode, mode,
            )  # fmt: skip

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        """One pass of G; of the ``forward`` that :meth:`installed` stands before, where it does."""
        forward = getattr(self._inside, "forward", None)
        run = forward or entry(self.generator, self.method)
        return run(*args, **kwargs)

    # -- context ----------------------------------------------------------------------------------

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._check_attached()
        if torch.compiler.is_compiling():
            yield
            return
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            raise UnsupportedError(
                "torch.jit.trace cannot follow a loop. loop.export(*inputs) makes one graph of G, D and the head: a "
                "torch.export program."
            )
        generator = unwrap(self.generator)
        critic = unwrap(self.discriminator) if self.discriminator is not None else None
        with (
            self._locked(),
            rolling(generator, self._settings.number, getattr(self._inside, "rank", None) or ALONE),
            training_mode(modules_of(generator) if self._hosted else [], False),
            eager([*modules_of(generator), *(modules_of(critic) if critic is not None else ())]),
        ):
            yield

    def _locked(self) -> AbstractContextManager[None]:
        """One rollout at a time on the two networks."""
        return locked(*(unwrap(net) if net is not None else None for net in (self.generator, self.discriminator)))

    def __prepare_scriptable__(self) -> Any:
        raise UnsupportedError(
            "torch.jit.script cannot compile a loop. loop.export(*inputs) makes one graph of G, D and the head: a "
            "torch.export program."
        )

    def _check_attached(self) -> None:
        if self._detached:
            raise DetachedError("This loop was detached. Attach again: fbwrap.attach(G, D, layers).")

    def _alphas(self, strength: Strength | Mapping[str | int, Strength] | None) -> list[tuple[Strength, ...]]:
        """The factors of each link's strength, those that are 1 left out."""
        now = self._settings.now
        own, every = list(now.strengths), now.strength
        if isinstance(strength, Mapping):
            for key, value in strength.items():
                own[self._index(key)] = check_strength(value)
        elif strength is not None:
            every = check_strength(strength)
        return [tuple(f for f in (every, mine) if isinstance(f, Tensor) or f != 1.0) for mine in own]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state |= {"_inside": None, "_uninstall": [], "_installed": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._inside = threading.local()
