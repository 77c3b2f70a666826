"""Samplers that move latents (or samples) along D's gradient: DOT, DDLS, DGflow.

Examples:
    >>> fbwrap.samplers.DGFlow(loop, divergence="KL")(16)                # doctest: +SKIP
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..engine.names import Path
from ..engine.pytree import tensors
from ..errors import SettingError
from ..feedback.critic import image_of
from ..feedback.facts import Inputs
from ..feedback.loop import Loop
from .base import Sampler
from .prior import Prior
from .rows import Rows
from .source import Held, placed, with_image

Moved = dict[Path, Tensor]


class LatentSampler(Sampler):
    """Moves the latents step by step along a gradient of D's answer.

    Args:
        steps: how many.
        step_size: of each.
    """

    def __init__(self, loop: Loop, *, steps: int, step_size: float, **options: Any):
        super().__init__(loop, **options)
        if steps < 0 or not step_size > 0:
            raise SettingError(f"steps={steps}, step_size={step_size}: pass 0 or more, and a number above 0.")
        if self.calibration is not None and self.calibration.method == "isotonic":
            raise SettingError(
                f"{type(self).__name__} follows the gradient of the ratio, and isotonic regression's steps have none: "
                "calibrate with method='platt'."
            )
        self.steps, self.step_size = steps, step_size

    def _priors(self) -> dict[Path, Prior]:
        return {path: Prior(how) for path, how in self._source.latents().items()}

    def _refined(self, inputs: Inputs, count: int) -> Held:
        priors = self._priors()
        held = dict(tensors(inputs))
        start = {path: held[path].detach() for path in priors if path in held}
        if len(start) < len(priors):
            raise SettingError("The inputs hold no latent: pass G's inputs as G takes them.")
        z = dict(start)
        before = after = torch.zeros(0)
        for step in range(self.steps):
            with self._source.recording():
                leaves = {path: tensor.detach().requires_grad_() for path, tensor in z.items()}
                _, response = self._source.in_graph(placed(inputs, leaves))
                answer, found = self._direction(response, leaves, start)
            if not torch.isfinite(answer).all():
                raise SettingError(
                    f"{type(self).__name__}: D's answer is not finite at step {step}. Pass a smaller step_size."
                )
            before, after = (answer, answer) if step == 0 else (before, answer)
            z = self._moved(z, found, priors)
        if any(not torch.isfinite(tensor).all() for tensor in z.values()):
            raise SettingError(f"{type(self).__name__}: latents are not finite. Pass a smaller step_size.")
        moved = placed(inputs, z)
        if self.steps:
            self._note(before, after, z, start)
        return self._source.made(moved), moved

    @abstractmethod
    def _direction(self, response: Tensor, leaves: Moved, start: Moved) -> tuple[Tensor, Moved]:
        """D's answer to each sample, (N,), and the gradients that the latents follow."""

    @abstractmethod
    def _moved(self, z: Moved, found: Moved, priors: Mapping[Path, Prior]) -> Moved:
        """The latents after one step."""

    def _note(self, before: Tensor, after: Tensor, z: Moved, start: Moved) -> None:
        way = joint_norm({path: z[path] - start[path] for path in z}, self._source.rows, len(before))
        for name, values in (("D's answer at first", before), ("D's answer at last", after), ("moved", way)):
            self._tally_mean(name, values)
        self.diagnostics["steps"] = self.steps


def joint_norm(parts: Moved, rows: Rows, count: int, offset: float = 0.0) -> Tensor:
    """‖·‖₂ of each of ``count`` samples over all parts, (N,); a small number keeps the gradient at 0 finite."""
    total: Any = 0.0
    for tensor in parts.values():
        each = tensor.movedim(rows.axis_of(tensor), 0).reshape(count, -1)
        total = total + (each + offset).square().sum(1)
    return torch.as_tensor(total).sqrt()


class DDLS(LatentSampler):
    """Discriminator Driven Latent Sampling: Langevin dynamics of p(z) · p/q(G(z)), G's energy and D's together.

    Examples:
        >>> fbwrap.samplers.DDLS(loop, loss="bce", steps=50)(16)         # doctest: +SKIP

    E(z) = −log p(z) − d(G(z)),   z ← z − ε/2 ∇E(z) + √ε n,   n ~ N(0, 1).

    Args:
        steps: the paper takes several hundred to a thousand; each costs two passes of G and D.
        step_size: ε.

    Latents of a range (``uniform``, ``truncated``) are reflected at its ends.

    Source: Che et al., NeurIPS 2020, Eq. 3 and Algorithm 1.
    """

    wants_ratio = True

    def __init__(self, loop: Loop, *, steps: int = 100, step_size: float = 0.01, **options: Any):
        super().__init__(loop, steps=steps, step_size=step_size, **options)

    def _direction(self, response: Tensor, leaves: Moved, start: Moved) -> tuple[Tensor, Moved]:
        answer = self._ratio(response)
        return answer, self._source.gradients(answer, leaves)

    def _moved(self, z: Moved, found: Moved, priors: Mapping[Path, Prior]) -> Moved:
        e = self.step_size
        return {
            path: priors[path].reflected(
                tensor + e / 2 * (priors[path].score(tensor) + found[path]) + e**0.5 * self._noise(tensor)
            )
            for path, tensor in z.items()
        }


class DGFlow(LatentSampler):
    """Discriminator Gradient flow: the gradient flow of an f-divergence between G's samples and the data.

    Examples:
        >>> fbwrap.samplers.DGFlow(loop, loss="bce", divergence="JS")(16)    # doctest: +SKIP

    z ← z + η s(d) ∇d(G(z)) + √(2γη) ξ,  with s = 1 (``"KL"``), σ(d) (``"JS"``), σ(−d) (``"logD"``), d = log p/q by D.

    Args:
        divergence: f.
        steps, step_size: as in the paper 25 of η = 0.1.
        noise: γ.

    Latents of a range are cut off at its ends.

    Source: Ansari et al., ICLR 2021, Eq. 10 and Table 1.
    """

    wants_ratio = True

    def __init__(
        self,
        loop: Loop,
        *,
        divergence: Literal["KL", "JS", "logD"] = "KL",
        steps: int = 25,
        step_size: float = 0.1,
        noise: float = 0.01,
        **options: Any,
    ):
        super().__init__(loop, steps=steps, step_size=step_size, **options)
        if divergence not in ("KL", "JS", "logD"):
            raise SettingError(f"divergence={divergence!r}: pass 'KL', 'JS' or 'logD'.")
        if not noise >= 0:
            raise SettingError(f"noise={noise}: pass 0 or more.")
        self.divergence, self.noise = divergence, noise

    def _direction(self, response: Tensor, leaves: Moved, start: Moved) -> tuple[Tensor, Moved]:
        answer = self._ratio(response)
        held = answer.detach()
        weight = {"KL": torch.ones_like(held), "JS": held.sigmoid(), "logD": (-held).sigmoid()}[self.divergence]
        return answer, self._source.gradients(weight * answer, leaves)

    def _moved(self, z: Moved, found: Moved, priors: Mapping[Path, Prior]) -> Moved:
        e, wide = self.step_size, (2 * self.noise * self.step_size) ** 0.5
        moved = {}
        for path, tensor in z.items():
            step = e * found[path] + (wide * self._noise(tensor) if wide else 0.0)
            moved[path] = priors[path].cut(tensor + step)
        return moved


class DOT(LatentSampler):
    """Discriminator Optimal Transport: each sample goes to where D gains most for the way.

    Examples:
        >>> fbwrap.samplers.DOT(loop)(16)                                # doctest: +SKIP
        >>> fbwrap.samplers.DOT(loop, space="sample").refine(low)        # doctest: +SKIP

    In latent space z minimises ‖z − z_0 + δ‖₂ − D(G(z)) / k, in sample space y minimises ‖y − y_0 + δ‖₂ − D(y) / K, by
    gradient descent. k and K are D's largest slope between pairs of samples, so D need be no ratio: its logit or its
    bare answer is taken.

    Args:
        space: ``"latent"`` or ``"sample"``: the second needs no latent.
        steps, step_size: as far as the authors' 100 steps of 0.01.
        slope: k or K; None: measured once, on 100 pairs; where G has no latent, D's steepest slope at the samples of
            each call.

    Normal latents keep their length to first order: the gradient loses its part along z. (The paper and its code divide
    that part by √n in place of ‖z‖², n numbers to a latent; with ‖z‖ near √n it is then turned round and grows, and
    latents of 64 numbers ran away with the step sizes here.) Latents of a range, and samples whose range an adapter
    knows, are cut off at its ends.

    Source: Tanaka, NeurIPS 2019, Algorithms 1 and 2; δ = 0.001 as in its code.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        space: Literal["latent", "sample"] = "latent",
        steps: int = 20,
        step_size: float = 0.05,
        slope: float | None = None,
        **options: Any,
    ):
        if space not in ("latent", "sample"):
            raise SettingError(f"space={space!r}: pass 'latent' or 'sample'.")
        self.moves_latents = space == "latent"
        super().__init__(loop, steps=steps, step_size=step_size, **options)
        if slope is not None and not slope > 0:
            raise SettingError(f"slope={slope}: pass a number above 0, or None to measure it.")
        self.space, self.slope, self._slope_was_said = space, slope, slope is not None

    def _prepare(self, inputs: Inputs | None = None, count: int = 0) -> None:
        super()._prepare(inputs, count)
        if self._slope_was_said:
            return
        if not self._source.has_latents():
            self.slope = self._steepest(inputs, count)
        elif self.slope is None or (inputs is not None and self._source.given(inputs)):
            self.slope = self._between_pairs(inputs, count)
        if not self.slope > 0:
            raise SettingError("D answers the same to all samples: there is nowhere to go.")

    def _between_pairs(self, inputs: Inputs | None, count: int) -> float:
        """D's largest slope between 100 pairs of samples."""
        largest, rows = 0.0, self._source.rows
        for size in map(len, torch.arange(100).split(self._batch)):
            places: list[Moved] = []
            answers: list[Tensor] = []
            for _ in range(2):
                made_of = self._like_a_call(size, inputs, count)
                output, response = self._source.judged(made_of)
                held = dict(tensors(made_of))
                latents = {path: held[path] for path in self._source.latents()}
                at: Moved = latents if self.space == "latent" else {(): image_of(output)}
                places.append(at)
                answers.append(self._potential(response))
            way = joint_norm({path: places[1][path] - places[0][path] for path in places[0]}, rows, size)
            slopes = (answers[1] - answers[0]).abs() / way
            largest = max([largest, *slopes[torch.isfinite(slopes)].tolist()])
        return largest

    def _steepest(self, inputs: Inputs | None, count: int) -> float:
        """D's largest slope at the samples of this call: there are no others to draw."""
        largest = 0.0
        for index in torch.arange(count).split(self._batch) if inputs is not None else ():
            made_of = self._source.pick_inputs(inputs or ((), {}), index, count)
            output = self._source.made(made_of)
            with self._source.recording():
                leaf: Moved = {(): image_of(output).detach().clone().requires_grad_()}
                answer = self._potential(self._source.response_in_graph(with_image(output, leaf[()]), made_of))
                found = self._source.gradients(answer, leaf, through_generator=False)
            largest = max(largest, float(joint_norm(found, self._source.rows, len(index)).max()))
        return largest or 1.0 * (inputs is None)

    def _refined(self, inputs: Inputs, count: int) -> Held:
        if self.space == "latent":
            return super()._refined(inputs, count)
        output = self._source.made(inputs)
        start: Moved = {(): image_of(output).detach()}
        span = self.loop.facts.value_range
        y: Moved = dict(start)
        before = after = torch.zeros(0)
        for step in range(self.steps):
            with self._source.recording():
                leaves: Moved = {(): y[()].detach().requires_grad_()}
                answered = self._source.response_in_graph(with_image(output, leaves[()]), inputs)
                answer, found = self._direction(answered, leaves, start)
            before, after = (answer, answer) if step == 0 else (before, answer)
            moved = y[()] + self.step_size * found[()]
            y = {(): moved.clamp(*span) if span else moved}
        if self.steps:
            self._note(before, after, y, start)
        return with_image(output, y[()]), inputs

    def _direction(self, response: Tensor, leaves: Moved, start: Moved) -> tuple[Tensor, Moved]:
        answer = self._potential(response)
        way = joint_norm({path: leaves[path] - start[path] for path in leaves}, self._source.rows, len(answer), 1e-3)
        target = answer / (self.slope or 1.0) - way
        return answer, self._source.gradients(target, leaves, through_generator=self.moves_latents)

    def _moved(self, z: Moved, found: Moved, priors: Mapping[Path, Prior]) -> Moved:
        return {
            path: priors[path].cut(tensor + self.step_size * priors[path].tangential(found[path], tensor, axis))
            for path, tensor in z.items()
            for axis in (self._source.rows.axis_of(tensor),)
        }
