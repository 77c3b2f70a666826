"""One step of D and one of what learns against it, usable in a training loop of one's own.

Examples:
    >>> critic = Critic(D, loop.critic_input, loop.response)                            # doctest: +SKIP
    >>> losses = afl_step(loop, critic, z, images, head_optimizer, d_optimizer)         # doctest: +SKIP

:func:`afl_step` is AFL's phase 2 (§3.2): the feedback modules learn G's own loss, then D learns. :func:`fal_step` is
FAL's (§4.3): the loss is taken at each of the T steps and averaged, and G may learn with the head.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fbwrap.engine.names import Path
from fbwrap.engine.pytree import map_tensors, put, tensors
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import SettingError, TrainingError
from fbwrap.feedback.critic import CriticInput, call, image_of, response_of, samples_in
from fbwrap.feedback.facts import inputs_of
from fbwrap.loop import FeedbackLoop

from ..data.batches import part_of
from .ema import EMA
from .losses import content_loss, gradient_penalty, loss_named, r1
from .options import Options
from .spectral import power_iterations

Auxiliary = Callable[[Any, Any], Tensor]


class Player(Protocol):
    """What learns against D."""

    learner: nn.Module

    def outputs(self, *args: object, **kwargs: object) -> Sequence[Any]:
        """The outputs that are to fool D, the last one best."""


class Head:
    """A loop's feedback modules as the player: y_1 … y_T are to fool D, or y_T alone (``loss_steps="last"``)."""

    def __init__(self, loop: FeedbackLoop, loss_steps: str = "all"):
        self.loop = loop
        self.learner: nn.Module = loop.feedback
        self._in_loss = slice(1, None) if loss_steps == "all" else slice(-1, None)

    def outputs(self, *args: Any, **kwargs: Any) -> Sequence[Any]:
        """The outputs that the loss is of."""
        return self.loop.rollout(*args, **kwargs).outputs[self._in_loss]


@dataclass(frozen=True)
class CriticArguments:
    """What D is called with for generated outputs, and where among it these stand.

    Args:
        given: a tensor, a tuple of positional or a dict of keyword arguments.
        sample_paths: places of the output in ``given``, as it was (not cut, joined or resized); there may be none.
    """

    given: Any
    sample_paths: tuple[Path, ...] = ()

    def sample(self) -> Tensor:
        """The sample in what D is called with; where it has no place of its own, the first floating-point tensor."""
        held = dict(tensors(self.given))
        for path in self.sample_paths:
            if path in held:
                return held[path]
        return next(tensor for tensor in held.values() if tensor.is_floating_point())

    def like(self, given: object) -> "CriticArguments":
        """Others of the same layout: of real data, say."""
        return CriticArguments(given, self.sample_paths)


@dataclass
class Critic:
    """D, how it is called, and what its response is.

    Args:
        auxiliary: a further loss of D on real data, ``f(D's answer, real batch)``: a classification
            loss where labels are at hand, for example.
        average: the average of D that gives the feedback, if any.
        probability: D answers with a sigmoid, and the loss is on logits: the response is read as the logit.
    """

    net: nn.Module
    critic_input: CriticInput
    response: Any = None
    auxiliary: Auxiliary | None = None
    average: EMA | None = None
    probability: bool = False

    def __call__(self, given: object) -> Tensor:
        """D's response."""
        return self.read(self.answer(given))

    def answer(self, given: object) -> Any:
        """All that D returns."""
        return call(self.net, given.given if isinstance(given, CriticArguments) else given)

    def read(self, answer: Any) -> Tensor:
        """The response in D's answer, as a logit."""
        response = response_of(answer, self.response)
        return response.float().clamp(1e-7, 1 - 1e-7).logit() if self.probability else response

    def on_output(self, output: object, args: tuple[object, ...], kwargs: dict[str, object]) -> CriticArguments:
        """What D is called with for a generated output."""
        given = self.critic_input(output, *args, **kwargs)
        made = {id(tensor) for _, tensor in tensors(output)}
        there = {path: id(tensor) for path, tensor in tensors(given) if id(tensor) in made}
        # of several parts of the output that D is given, the sample is one, in all of its places
        sample = id(image_of(output)) if samples_in(output) else 0
        if sample not in there.values():
            sample = next(iter(there.values()), 0)
        return CriticArguments(given, tuple(path for path, each in there.items() if each == sample))

    def sample_in(self, given: Any) -> Tensor:
        """The sample in what D is called with (:meth:`CriticArguments.sample`)."""
        return _shown(given).sample()

    def on_sample(self, given: Any, sample: Tensor) -> Tensor:
        """D's response with another sample in the place of that one, in all of its places (D(y, y), say): the gradient
        is taken there."""
        shown = _shown(given)
        first = shown.sample()
        replaced = {id(tensor) for path, tensor in tensors(shown.given) if path in shown.sample_paths} | {id(first)}
        return self(map_tensors(lambda tensor: sample if id(tensor) in replaced else tensor, shown.given))


def _shown(given: Any) -> CriticArguments:
    return given if isinstance(given, CriticArguments) else CriticArguments(given)


class NotFiniteError(TrainingError):
    """A loss or a gradient is not finite; nothing has moved."""


def finite(values: Sequence[Tensor]) -> None:
    """Refuse losses and sums of gradients that are not finite: one wait for the device."""
    if not bool(torch.isfinite(torch.stack([value.float() for value in values]).sum())):
        raise NotFiniteError("A loss or its gradient is not finite.")


class Passes:
    """How a step's passes run: here plainly; :class:`~fbwrap.recipes.training.processes.Processes` adds mixed
    precision and several processes."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Around a forward pass."""
        return nullcontext()

    def random(self, n: int, device: torch.device) -> Tensor:
        """n uniform random numbers, one per sample."""
        return torch.rand(n, device=device)

    def learn(self, losses: Iterable[Tensor], optimizer: torch.optim.Optimizer, parts: int = 1) -> None:
        """One optimizer step down the mean of the losses of a batch's parts, each made when the one before is done.

        Raises:
            NotFiniteError: a loss, or the gradient, is not finite; nothing has moved then.
        """
        optimizer.zero_grad(set_to_none=True)
        found: list[Tensor] = []
        for loss in losses:
            found.append(loss.detach())
            self.backward(loss / parts)
        self.update(optimizer, found)

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradient."""
        loss.backward()

    def update(self, optimizer: torch.optim.Optimizer, losses: Sequence[Tensor]) -> None:
        """Step down the gradients of these losses, which were added up."""
        self.check(optimizer, losses)
        optimizer.step()

    def check(self, optimizer: torch.optim.Optimizer, losses: Sequence[Tensor]) -> None:
        """Refuse losses and gradients that are not finite."""
        held = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        finite([*losses, *(gradient.sum() for gradient in held)])


ONE_PROCESS = Passes()


def as_inputs(batch: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch of G's inputs as positional and keyword arguments."""
    return inputs_of(tuple(batch) if isinstance(batch, list) else batch)


@contextmanager
def frozen(*networks: nn.Module | None) -> Iterator[None]:
    """No gradient for the parameters of networks that do not learn; restored one by one."""
    changed = [p for net in networks if net is not None for p in net.parameters() if p.requires_grad]
    try:
        for parameter in changed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


def critic_step(
    critic: Critic,
    real: object,
    fake: object,
    optimizer: torch.optim.Optimizer,
    options: Options,
    step: int | None = None,
    passes: Passes = ONE_PROCESS,
) -> float:
    """One step of D: real data against generated samples (what D is called with, without a graph).

    Args:
        fake: what :meth:`Critic.on_output` gave; or simply what D is called with, whose sample then is its first
            floating-point tensor.
        step: counts up, for lazy R1: every ``r1_every`` steps, its weight times as large; None: at every step.
    """
    loss_of, many = loss_named(options.loss)[0], options.accumulate
    values: list[Tensor] = []
    shown = _shown(fake)
    penalised = options.loss == "wasserstein_gp"
    if penalised:
        true_images, made_images = shown.like(real).sample(), shown.sample()
        if len(made_images) < len(true_images):
            raise SettingError(
                f"WGAN-GP mixes each real sample with a generated one: {len(true_images)} and {len(made_images)} of "
                "them do not pair. Give batches of real data that are no larger than those of inputs."
            )
        between = passes.random(len(true_images), true_images.device)
        mixed = _one_each(made_images, len(true_images), step or 0)

    def losses() -> Iterator[Tensor]:
        for i in range(many):
            true, made = shown.like(part_of(real, i, many)), part_of(shown.given, i, many)
            with passes.autocast():
                answer = critic.answer(true.given)
                loss = loss_of(critic.read(answer).float(), critic(made).float())
                total = loss
                if critic.auxiliary is not None:
                    total = total + critic.auxiliary(answer, true.given)
            values.append(loss.detach())
            images, on_real = true.sample(), partial(critic.on_sample, true)
            if options.r1 and (step is None or step % options.r1_every == 0):
                total = total + options.r1 * (1 if step is None else options.r1_every) * r1(on_real, images)
            if penalised:
                points = part_of(mixed, i, many), part_of(between, i, many)
                total = total + options.gradient_penalty * gradient_penalty(on_real, images, *points)
            yield total

    with critic_modes(critic.net, options.critic_mode == "train"):
        passes.learn(losses(), optimizer, many)
    return float(torch.stack(values).mean())


def player_step(
    player: Player,
    critic: Critic,
    inputs: object,
    optimizer: torch.optim.Optimizer,
    options: Options,
    *,
    real: object = None,
    target: Tensor | None = None,
    perceptual: nn.Module | None = None,
    passes: Passes = ONE_PROCESS,
) -> tuple[float, CriticArguments]:
    """One step of the player: its outputs' loss under D, which does not learn; mean over outputs.

    Args:
        real: what D is called with for real data; the relativistic loss wants it.
        target: what the outputs should be, for the reconstruction and perceptual losses.
        perceptual: ``f(output, target)``: see :class:`~fbwrap.recipes.training.losses.Perceptual`.

    Returns:
        The loss, and what D is called with for all these outputs, without a graph.
    """
    loss_of, many = loss_named(options.loss)[1], options.accumulate
    values: list[Tensor] = []
    shown: list[list[CriticArguments]] = []

    def losses() -> Iterator[Tensor]:
        for i in range(many):
            args, kwargs = as_inputs(part_of(inputs, i, many))
            wanted = part_of(target, i, many)
            with passes.autocast():
                outputs = player.outputs(*args, **kwargs)
                given = [critic.on_output(y, args, kwargs) for y in outputs]
                with critic_modes(critic.net, options.critic_mode == "train"):
                    against = None
                    if options.loss == "relativistic":
                        against = critic(part_of(real, i, many)).detach().float()
                    each = [options.adversarial * loss_of(critic(one.given).float(), against) for one in given]
                if wanted is not None:
                    each = [
                        loss + content_loss(image_of(y).float(), wanted, options, perceptual)
                        for loss, y in zip(each, outputs, strict=True)
                    ]
            shown.append([one.like(all_of([one.given])) for one in given])
            loss = torch.stack(each).mean()
            values.append(loss.detach())
            yield loss

    with frozen(critic.net):
        passes.learn(losses(), optimizer, many)
    return float(torch.stack(values).mean()), joined([part for step in zip(*shown, strict=True) for part in step])


def afl_step(
    loop: FeedbackLoop,
    critic: Critic,
    inputs: Any,
    real: Any,
    optimizer: torch.optim.Optimizer,
    critic_optimizer: torch.optim.Optimizer,
    options: Options | None = None,
    step: int | None = None,
    **more: Any,
) -> dict[str, float]:
    """One step of AFL's phase 2 in a loop of one's own: the head, then D.

    Args:
        loop: in train mode, its G frozen (``loop.generator.requires_grad_(False).eval()``).
        critic: D, which learns; it may be the loop's own (``loop.discriminator``).
        inputs: a batch of G's inputs; real: a batch of what D is called with for real data.
        optimizer, critic_optimizer: of ``loop.parameters()`` and of D's.
        step: counts up; lazy R1 goes by it. None: R1 at every step, at its own weight.
        more: ``target=``, ``perceptual=`` as :func:`player_step` takes them.

    Returns:
        Both losses.
    """
    options = options or Options()
    player, fake = player_step(Head(loop, options.loss_steps), critic, inputs, optimizer, options, real=real, **more)
    return {"player": player, "critic": critic_step(critic, real, fake, critic_optimizer, options, step)}


def fal_step(
    loop: FeedbackLoop,
    critic: Critic,
    inputs: object,
    real: object,
    optimizer: torch.optim.Optimizer,
    critic_optimizer: torch.optim.Optimizer,
    options: Options | None = None,
    step: int | None = None,
    **more: object,
) -> dict[str, float]:
    """One step of FAL in a loop of one's own: the loss of each of ``loop.steps`` outputs, averaged (or the last one's
    alone: ``Options(loss_steps="last")``), then D.

    As :func:`afl_step`; as published G learns too: in train mode, its parameters in ``optimizer`` with the head's.
    """
    if loop.plan.first != "zeros":
        raise SettingError("FAL starts from zeros: attach with first='zeros', or with AST modules alone.")
    before, loop.update_statistics = loop.update_statistics, True  # G's, in train mode, are learned too
    try:
        return afl_step(loop, critic, inputs, real, optimizer, critic_optimizer, options, step, **more)
    finally:
        loop.update_statistics = before


def joined(shown: list[CriticArguments]) -> CriticArguments:
    """What D was shown at all steps, in one batch, without a graph."""
    return shown[0].like(all_of([each.given for each in shown]))


def all_of(shown: list[object]) -> Any:
    """What D was shown at all steps, in one batch, without a graph: its mean is the mean over the steps."""
    parts = [dict(tensors(given)) for given in shown]
    whole = shown[0]
    for path in parts[0]:
        each = [part[path].detach() for part in parts]
        whole = put(whole, path, torch.cat(each) if each[0].dim() else each[0])  # no dimension: a setting of all
    return whole


def _one_each(images: Tensor, many: int, step: int) -> Tensor:
    """Of what D was shown at T steps, one for each of ``many`` real samples; which step's changes with ``step``."""
    if len(images) <= many:
        return images
    order = torch.arange(many, device=images.device)
    return images[(order + step) % (len(images) // many) * many + order]


@contextmanager
def critic_modes(net: nn.Module, training: bool) -> Iterator[None]:
    """D in the mode asked for; spectral norm goes on in eval mode too, for its weights move."""
    with (
        training_mode(list(net.modules()), training),
        training_mode([module for module, _ in power_iterations(net)], True),
    ):
        yield
