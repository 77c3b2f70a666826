"""The corrections of one rollout: what each module sees, and what is carried from step to step.

AFL (Eq. 1, 2): φ ← φ + α·f([θ, φ]).    FAL (Eq. 10): h_t = h_{t-1} + α·(Δγ∘h_{t-1} + β).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PairingError, UnsupportedError
from .features import FRAMES, OTHER_LENGTH, broadcast, from_map, resize, to_map, zeros
from .links import Connection
from .settings import Strength


class Corrections:
    """The corrections of one rollout: what the modules see, and what is carried between steps."""

    def __init__(
        self,
        connections: Sequence[Connection],
        modules: nn.ModuleList,
        active: tuple[int, ...],
        strengths: list[tuple[Strength, ...]],
        dims: int,
    ):
        self._connections, self._modules = connections, modules
        self._active, self._strengths, self._dims = active, strengths, dims
        self.signals: dict[int, list[Tensor]] = {}
        self._features: dict[int, Tensor] = {}  # φ (or h) as the last corrected pass left it
        self._observed: dict[int, Tensor] = {}  # φ(y_0)
        self._now: dict[int, Tensor] = {}
        self._training = torch.is_grad_enabled() and modules.training
        watch = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        self._graph = watch and any(p.requires_grad for p in modules.parameters())
        # the sites of links that see the previous pass's feature
        self.seen_before = [site for site, i in enumerate(active) if connections[i].feature_of == "previous"]

    def run(self, generate: Callable[[Callable[[int, Tensor], Tensor]], Any]) -> Any:
        """One pass of G with the corrections in it."""
        self._now = {}
        output = generate(self.correct)
        self._features |= self._now
        return output

    def observe(self, site: int, feature: Tensor) -> Tensor:
        """Note φ(y_0) for links that see the previous pass's feature (AFL Eq. 5)."""
        index = self._active[site]
        if self._connections[index].feature_of == "previous":
            self._observed[index] = feature.clone()  # what follows in G may write into it
        return feature

    def correct(self, site: int, feature: Tensor) -> Tensor:
        """φ + α·f(signals, φ), or for a carried link h + α·f(signals, h)."""
        index = self._active[site]
        link, module = self._connections[index], self._modules[index]
        if self._graph:
            _refuse_checkpointing(str(link.target), self._training)
        base = self._features.get(index, feature) if link.carry else feature
        seen = base
        if link.feature_of == "previous":
            seen = self._features.get(index, self._observed.get(index, feature))
        phi = to_map(seen, link.form)
        signals = self.signals.get(index) or self._zeros(index, phi)
        if link.form.layout == FRAMES and any(len(signal) != len(phi) for signal in signals):
            raise PairingError(OTHER_LENGTH.format(len(seen), link.form.spatial[0]))
        dtype = next((p.dtype for p in module.parameters()), phi.dtype)
        if getattr(module, "resize_signals", True):
            signals = [resize(signal, tuple(phi.shape[2:])) for signal in signals]
        correction = module(phi.to(dtype), *(signal.to(dtype) for signal in signals))
        if correction.shape != phi.shape:
            raise PairingError(
                f"The feedback module of {link.target} returned shape {tuple(correction.shape)} for a "
                f"feature of shape {tuple(phi.shape)}. forward(feature, *signals) must return a "
                "correction of the feature's shape."
            )
        correction = correction.to(base.dtype)
        for factor in self._strengths[index]:
            correction = correction * broadcast(factor, correction, self._dims, link.form.rows)
        corrected = base + from_map(correction, link.form, base)
        if link.carry or link.feature_of == "previous":
            self._now[index] = corrected.clone()  # likewise
        return corrected

    def _zeros(self, index: int, phi: Tensor) -> list[Tensor]:
        link = self._connections[index]
        scale = tuple(now / then for now, then in zip(phi.shape[2:], link.form.spatial, strict=True))
        return [zeros(source.form, phi.shape[0], scale, phi) for source in link.sources]


def _refuse_checkpointing(target: str, training: bool) -> None:
    """A checkpointed segment is computed again in backward, when the correction is no longer there.

    Reentrant checkpointing runs the forward without a graph, as G's own no_grad does; only in training
    is that certain to be a mistake.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    within = hooks is not None and "_checkpoint_hook" in getattr(hooks[0], "__qualname__", "")
    if within or (training and not torch.is_grad_enabled()):
        raise UnsupportedError(
            f"G computes its layer {target!r} under gradient checkpointing (or no_grad), so a feedback module "
            "there would get wrong gradients. Turn checkpointing off in G to train the head. To only make "
            "samples, call the loop under torch.no_grad()."
        )
