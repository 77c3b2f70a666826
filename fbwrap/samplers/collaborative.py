"""Collaborative sampling: one layer of G is moved until D likes what comes of it.

Examples:
    >>> sampler = Collaborative(loop, layer="main.3")                    # doctest: +SKIP
    >>> sampler.refine(z)                                                # doctest: +SKIP
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.intercept import wrapped
from ..engine.names import Ref, match, names, parse, unwrap
from ..engine.pytree import map_tensors, put, tensors
from ..errors import LayerNotCalledError, SettingError
from ..feedback.facts import Inputs
from ..feedback.loop import Loop
from ..feedback.plan import call_of
from .base import Sampler
from .source import Held


class Collaborative(Sampler):
    """Gradient steps on the output h of one layer of G, for D: h ← h − λ ∇ L_G(D(G_rest(h))), and the best of them.

    Examples:
        >>> import torch, fbwrap
        >>> from torch import nn
        >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
        >>> loop = fbwrap.attach(G, D, None, example=torch.zeros(1, 2))
        >>> z = torch.randn(5, 2)
        >>> refined = fbwrap.samplers.Collaborative(loop, layer="0", loss="bce", steps=10).refine(z)
        >>> bool((D(refined) >= D(G(z)) - 1e-6).all())
        True

    Args:
        layer: of G, as in ``layers=`` of :func:`fbwrap.attach`; None: the first that the loop corrects.
        steps, step_size, momentum: as in the authors' code 50, 0.1 and 0.9.

    L_G is G's loss for the loss that D was trained with: softplus(−d) where D's answer is a log ratio d, else −D. Of
    all steps each sample's best one by D is returned. With feedback the layer is moved alike in all
    of the loop's passes.
    For the paper's whole scheme choose among the results: ``DRS(Collaborative(loop, layer="main.3"))``.

    It needs no latent: ``refine(picture)`` works for super-resolution.

    Source: Liu et al., AAAI 2020, Algorithm 1.
    """

    moves_latents = False

    def __init__(
        self,
        loop: Loop,
        *,
        layer: str | None = None,
        steps: int = 50,
        step_size: float = 0.1,
        momentum: float = 0.9,
        **options: Any,
    ):
        super().__init__(loop, **options)
        if steps < 0 or not step_size > 0 or not 0 <= momentum < 1:
            raise SettingError(
                f"steps={steps}, step_size={step_size}, momentum={momentum}: pass 0 or more, a number above 0, and one "
                "from 0 to below 1."
            )
        self.steps, self.step_size, self.momentum = steps, step_size, momentum
        self.layer = layer if layer is not None else self._corrected()
        self._ref = self._checked(parse(self.layer))

    def _corrected(self) -> str:
        if not self.loop.connections:
            raise SettingError(
                "Which layer of G shall be moved? Pass layer=, a name; fbwrap.layers(G, example) lists them."
            )
        return str(self.loop.connections[0].target)

    def _checked(self, ref: Ref) -> Ref:
        """The layer, called once and with one tensor to move."""
        trace = self.loop.traces[0]
        name = match(self.loop.generator, ref.name)[0]
        ref = Ref(name, ref.call, ref.path)
        call = call_of(trace, names(self.loop.generator)[name], ref, "Generator")
        self._before = call.flops_after
        floating = [path for path, info in call.outputs.items() if info.dtype.is_floating_point]
        if ref.path not in floating and len(floating) != 1:
            raise LayerNotCalledError(
                f"Layer {name!r} returns {len(call.outputs)} tensors: say which one, such as '{name}[0]'."
            )
        return ref if ref.path in floating else Ref(name, ref.call, floating[0])

    def _refined(self, inputs: Inputs, count: int) -> Held:
        source = self._source
        offset: Tensor | None = None
        speed: Any = 0.0
        held: Any = None
        best = first = torch.zeros(0)
        for step in range(self.steps + 1):
            last = step == self.steps
            with source.recording(), self._moved(offset) as leaf:
                output, response = source.in_graph(inputs)
                answer = self._potential(response)
                if not last:
                    found = source.gradients(-self._loss_of(answer), {(): leaf[0]}, before=self._before)[()]
            answer, output = answer.detach(), map_tensors(Tensor.detach, output)
            if held is None:
                held, best, first = output, answer, answer
            else:
                held, best = source.rows.where(answer > best, output, held), torch.maximum(answer, best)
            if not last:
                speed = self.momentum * speed + self.step_size * found
                offset = speed if offset is None else offset + speed
        self._tally_mean("D's answer at first", first)
        self._tally_mean("D's answer at best", best)
        self.diagnostics["steps"] = self.steps
        return held, inputs

    def _loss_of(self, answer: Tensor) -> Tensor:
        return F.softplus(-answer) if self._knows_ratio else -answer

    @contextmanager
    def _moved(self, offset: Tensor | None) -> Iterator[list[Tensor]]:
        """Within the block the layer returns ``offset`` more; the list holds the leaf of the graph that was added."""
        net = unwrap(self.loop.generator)
        layer = names(self.loop.generator)[self._ref.name]
        wanted, seen = self._ref.call or 0, [0]
        leaf: list[Tensor] = []

        def begin(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen[0] = 0
            return forward(*args, **kwargs)

        def around(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            output = forward(*args, **kwargs)
            seen[0] += 1
            value = dict(tensors(output)).get(self._ref.path)
            if seen[0] - 1 != wanted or value is None:
                return output
            if not leaf:
                start = torch.zeros_like(value) if offset is None else offset
                leaf.append(start.detach().requires_grad_())
            if value.shape != leaf[0].shape:  # a call that is left out, and whose value nobody reads
                return output
            return put(output, self._ref.path, value + leaf[0])

        outermost = float("inf")
        with (
            wrapped({net: begin}, method=self.loop.method, rank=outermost),
            wrapped({layer: around}, rank=outermost),
        ):
            yield leaf
