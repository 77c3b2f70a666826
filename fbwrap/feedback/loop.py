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
from ..engine.trace import Trace
from ..engine.training_mode import training_mode
from ..errors import CriticError, DetachedError, HeadError, UnsupportedError
from .adjustable import Adjustable
from .critic import CriticInput
from .critic_runner import CriticCall, CriticRunner
from .export import export
from .facts import Facts
from .install import replace_forward, retarget_optimizer
from .latents import Latents, read_latents
from .links import Connection
from .plan import ExecutionPlan
from .rollout import Rollout
from .settings import Strength, check_steps
from .unroll import RolloutRequest, Unroller

logger = logging.getLogger("fbwrap")


class Loop(Adjustable):
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
        planned: ExecutionPlan,
        traces: tuple[Trace, Trace | None],
        critic_call: CriticCall,
        facts: Facts,
        *,
        steps: int,
        strength: Strength,
        replay: bool,
    ):
        super().__init__(connections, planned.modules, steps, strength)
        self.plan = planned.plan
        self.facts = facts
        self._generator = (generator,)  # in a tuple: it must not be registered
        self._traces = traces
        self._critic_runner = CriticRunner(discriminator, traces[1], critic_call)
        self._unroller = Unroller(generator, traces[0], self.connections, planned.first, planned.prefix, replay)
        self._latents: Latents | None = None
        self.update_statistics = False
        self._detached = False
        self._inside = threading.local()
        self._uninstall: list[ExitStack] = []
        self._frozen: list[nn.Parameter] = []
        self._installed: ExitStack | None = None
        self._trained_by_script = False
        self._mode_was_said = False
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
    def critic_call(self) -> CriticCall:
        """How D is asked: all of it in one value."""
        return self._critic_runner.how

    @critic_call.setter
    def critic_call(self, value: CriticCall) -> None:
        self._critic_runner.how = value

    @property
    def critic_input(self) -> CriticInput:
        """What D is called with, given G's output and inputs."""
        return self.critic_call.critic_input

    @critic_input.setter
    def critic_input(self, value: CriticInput) -> None:
        self.critic_call = replace(self.critic_call, critic_input=value)

    @property
    def response(self) -> str | Callable[[Any], Tensor] | None:
        """How D's response is read in what it returns."""
        return self.critic_call.response

    @response.setter
    def response(self, value: str | Callable[[Any], Tensor] | None) -> None:
        self.critic_call = replace(self.critic_call, response=value)

    @property
    def critic_mode(self) -> Literal["eval", "inherit"]:
        """D's mode in the loop."""
        return self.critic_call.mode

    @critic_mode.setter
    def critic_mode(self, value: Literal["eval", "inherit"]) -> None:
        self.critic_call = replace(self.critic_call, mode=value)

    @property
    def detach_signals(self) -> bool:
        """Whether what D sees is without a graph."""
        return self.critic_call.detach_signals

    @detach_signals.setter
    def detach_signals(self, value: bool) -> None:
        self.critic_call = replace(self.critic_call, detach_signals=value)

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

    # -- running ----------------------------------------------------------------------------------

    def forward(self, *args: object, **kwargs: object) -> Any:
        """y_T for G's own inputs; returns what G returns."""
        outputs, _ = self._run(args, kwargs, self.steps, None, keep=False)
        return outputs[-1]

    def rollout(
        self,
        *args: object,
        steps: int | None = None,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        reference: object = None,
        **kwargs: object,
    ) -> Rollout:
        """The whole sequence y_0 … y_T.

        Args:
            steps, strength: for this call only.
            reference: what D looks at in place of the generated sample, at every step (AFL's feedback
                switching, Eq. 7: y = G(x, α·E(reference))). Of the shape of G's output; one row serves all samples.
        """
        outputs, from_zeros = self._run(
            args, kwargs, self.steps if steps is None else check_steps(steps), reference, keep=True, strength=strength
        )
        return Rollout(tuple(outputs), lambda output: self.respond(output, *args, **kwargs), from_zeros)

    def respond(self, output: object, *args: object, **kwargs: object) -> Tensor:
        """D's response to ``output``, which G made of ``args`` and ``kwargs``: all of D, no graph.
        A head that holds the beginning of its D alone raises: the D that was given ends in other weights."""
        with torch.no_grad():
            return self.ask(output, *args, **kwargs)

    def ask(self, output: object, *args: object, **kwargs: object) -> Tensor:
        """:meth:`respond`, in a graph where torch records one."""
        self._check_whole_critic()
        with self._running(), outside_inference_mode():
            return self._critic_runner.respond(output, args, kwargs)

    def with_response(self, *args: object, steps: int | None = None, **kwargs: object) -> tuple[Any, Tensor]:
        """y_T and D's response to it, in one graph where torch records one: gradients pass through D's features, too,
        whatever ``detach_signals`` says. For :mod:`fbwrap.samplers`, which move G's latents towards what D prefers."""
        self._check_whole_critic()
        critic_runner = self._critic_runner.with_graph()
        steps = self.steps if steps is None else check_steps(steps)
        outputs, _ = self._run(args, kwargs, steps, None, keep=False, critic_runner=critic_runner)
        return outputs[-1], self.ask(outputs[-1], *args, **kwargs)

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Within the block, the generator itself runs the loop: ``G(x)`` is ``loop(x)``.

        For somebody else's inference code, which calls G and knows nothing of fbwrap.
        """
        self._check_attached()
        with replace_forward(
            *(self.generator, self.method, self._in_place_of_generator, self._inside, self._locked),
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
        self._trained_by_script = True
        return self.train()

    def _in_place_of_generator(self, *args: object, **kwargs: object) -> object:
        """The loop as the script's G: where a script trains it, its modules follow G's mode."""
        with training_mode(
            list(self.feedback.modules()) if self._trained_by_script else [], unwrap(self.generator).training
        ):
            return self(*args, **kwargs)

    def detach(self) -> None:
        """Let go of G and D. They are what they were before :func:`fbwrap.attach`. Idempotent."""
        self._detached = True
        self.uninstall()
        for stack in list(self._uninstall):
            stack.close()
        self._trained_by_script = False
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def export(
        self, *example: object, dynamic: bool = False, strength_input: bool = False, **named: object
    ) -> torch.export.ExportedProgram:
        """G, D and the head in one graph: a ``torch.export.ExportedProgram`` of ``loop(*example)``.

        The loop is unrolled with the steps and strengths that it has now. Prefixes that are computed
        again and D's unused tail are in the graph as written; compilers remove them.

        Args:
            example, named: inputs of G.
            dynamic: leave every size open that G and D leave open: the batch, and the picture's where they are
                convolutions alone. Sizes that they fix stay fixed, and so do those of 1 but the batch's.
            strength_input: make α an input of the graph, ``strength=torch.tensor(0.5)``; else it is the loop's of now.

        Raises:
            UnsupportedError: torch.export cannot follow G or D.
        """
        self._check_attached()

        def run(*args: object, strength: Tensor | None = None, **kwargs: object) -> object:
            return self(*args, **kwargs) if strength is None else self._once(args, kwargs, strength)

        return export(
            run if strength_input else self, self.feedback, self.generator, self.discriminator, (example, named),
            dynamic=dynamic, strength=strength_input, batch_axis=self._traces[0].batch.axis, method=self.method,
        )  # fmt: skip

    def _once(self, args: tuple[object, ...], kwargs: dict[str, object], strength: Tensor) -> object:
        outputs, _ = self._run(args, kwargs, self.steps, None, keep=False, strength=strength)
        return outputs[-1]

    def use_discriminator(self, discriminator: nn.Module | None) -> None:
        """Look with another D of the same architecture; the one that was in use stays as it is."""
        self.note(critic_in_part=False)
        self._critic_runner = CriticRunner(discriminator, self._traces[1], self.critic_call)

    def __repr__(self) -> str:
        state = "detached" if self._detached else f"steps={self.steps}, strength={self.strength}"
        return f"{type(self).__name__}({state})\n{self.plan}"

    # -- the algorithm ----------------------------------------------------------------------------

    def _run(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        steps: int,
        reference: object,
        keep: bool,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        critic_runner: CriticRunner | None = None,
    ) -> tuple[list[object], bool]:
        alphas = self._alphas(strength)
        self._warn_of_other_mode()
        with self._running(), outside_inference_mode(), torch.no_grad() if self._untracked() else nullcontext():
            request = RolloutRequest((args, kwargs), steps, alphas, reference, keep, self.update_statistics)
            return self._unroller.run(self._generate, self.feedback, critic_runner or self._critic_runner, request)

    def _untracked(self) -> bool:
        """Whether G or D was made within inference mode: no gradient passes through it."""
        nets = [net for net in (self.generator, self.discriminator) if net is not None]
        first = [next(unwrap(net).parameters(), None) for net in nets]
        return not torch.compiler.is_compiling() and any(p is not None and p.is_inference() for p in first)

    def _warn_of_other_mode(self) -> None:
        """Say once that G is in another mode than the head was trained with."""
        mode, training = self.facts.generator_mode, unwrap(self.generator).training
        if mode and training is not (mode == "train") and not self._mode_was_said and not torch.compiler.is_compiling():
            self._mode_was_said = True
            logger.warning(
                "G is in %s mode, and this head was trained with G in %s mode: samples differ (batch norm, dropout). "
                "If that is not meant, add G.%s().", "train" if training else "eval", mode, mode,
            )  # fmt: skip

    def _generate(self, *args: object, **kwargs: object) -> object:
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
            training_mode(modules_of(generator) if self._trained_by_script else [], False),
            eager([*modules_of(generator), *(modules_of(critic) if critic is not None else ())]),
        ):
            yield

    def _locked(self) -> AbstractContextManager[None]:
        """One rollout at a time on the two networks."""
        return locked(*(unwrap(net) if net is not None else None for net in (self.generator, self.discriminator)))

    def __prepare_scriptable__(self) -> object:
        raise UnsupportedError(
            "torch.jit.script cannot compile a loop. loop.export(*inputs) makes one graph of G, D and the head: a "
            "torch.export program."
        )

    def _check_whole_critic(self) -> None:
        if self.facts.critic_in_part:
            raise HeadError(
                "This head holds only the first layers of its D, so D's response is not known. Save the "
                "trained loop again: save_pretrained(folder, discriminator='all')."
            )
        if self.facts.unclear_response:
            raise CriticError(self.facts.unclear_response)

    def _check_attached(self) -> None:
        if self._detached:
            raise DetachedError("This loop was detached. Attach again: fbwrap.attach(G, D, layers).")

    def __getstate__(self) -> dict[str, object]:
        state = dict(self.__dict__)
        state |= {"_inside": None, "_uninstall": [], "_installed": None}
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._inside = threading.local()
