"""Samplers that choose among samples by D's answer, and change none of them: DRS, MH-GAN, best of n.

Examples:
    >>> sampler = DRS(loop, keep=0.25, seed=0)                           # doctest: +SKIP
    >>> sampler(64), sampler.cost, sampler.diagnostics                   # doctest: +SKIP
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import SettingError
from ..feedback.facts import Inputs
from ..feedback.loop import Loop
from .base import Sampler
from .source import Held

_LIMIT = 1000  # candidates for one row; ten times as many without a kept one where any row will do


class DRS(Sampler):
    """Discriminator Rejection Sampling: a sample is kept with the probability p(y) / (M q(y)).

    Examples:
        >>> import torch, fbwrap
        >>> from torch import nn
        >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
        >>> loop = fbwrap.attach(G, D, None, example=torch.zeros(1, 2))
        >>> loop.latents = "normal"
        >>> sampler = fbwrap.samplers.DRS(loop, loss="bce", keep=0.5)
        >>> sampler(100).shape, 0.3 < sampler.diagnostics["acceptance"] < 0.7
        (torch.Size([100, 2]), True)

    With d = log p(y)/q(y) by D, and d_M the largest one seen: F = d − d_M − log(1 − exp(d − d_M − ε)) − γ, and a sample
    is accepted with the probability σ(F). With γ = 0 that is exact rejection sampling.

    Args:
        keep: the share of samples to keep; γ is chosen for it on the first samples, anew whenever d_M has risen. None:
            γ = 0; exact where d is, and as slow as the largest ratio demands.
        burn_in: samples with which d_M and γ are found, once, before the first call; before each one where G is given
            what cannot be drawn (pictures beside its latent).

    Raises:
        SettingError: D's answer is no ratio; hardly anything is accepted.

    Source: Azadi et al., ICLR 2019, Eq. 8 and Algorithm 1; ε = 1e-8.
    """

    wants_ratio = True
    chooses = True

    def __init__(self, loop: Loop | Sampler, *, keep: float | None = 0.25, burn_in: int = 1000, **options: Any):
        super().__init__(loop, **options)
        if keep is not None and not 0 < keep <= 1:
            raise SettingError(f"keep={keep}: pass the share of samples to keep, above 0 and at most 1; or None.")
        if burn_in < 2:
            raise SettingError(f"burn_in={burn_in}: pass 2 or more samples.")
        self.keep, self.burn_in = keep, burn_in
        self._largest: float | None = None
        self._first_ratios = torch.zeros(0)  # of the burn-in
        self._gammas: dict[float, float] = {}  # by d_M

    def _prepare(self, inputs: Inputs | None = None, count: int = 0) -> None:
        super()._prepare(inputs, count)
        if self._largest is not None and not (inputs is not None and self._source.given(inputs)):
            return
        sizes = list(map(len, torch.arange(self.burn_in).split(self._batch)))
        responses = [self._judged(self._like_a_call(size, inputs, count), size)[2] for size in sizes]
        self._first_ratios = torch.cat([self._log_ratios(response) for response in responses])
        self._largest = float(self._first_ratios.max())
        self._gammas = {}

    def _log_ratios(self, response: Tensor) -> Tensor:
        return self._ratio(response).cpu().double()

    def _raw(self, ratios: Tensor, largest: Tensor) -> Tensor:
        below = ratios - largest
        return below - torch.log1p(-torch.exp(below - 1e-8))

    def _gamma(self, largest: float) -> float:
        """The shift with which the share ``keep`` of the first samples would be kept."""
        if self.keep is None:
            return 0.0
        if largest not in self._gammas:
            raw = self._raw(self._first_ratios, torch.tensor(largest, dtype=torch.float64))
            self._gammas[largest] = shift_for(raw, self.keep)
        return self._gammas[largest]

    def _accepted(self, response: Tensor) -> Tensor:
        """Which of a batch of samples are kept, (N,)."""
        ratios = self._log_ratios(response)
        largest = torch.cummax(ratios, 0).values.clamp(min=self._largest)
        self._largest = float(largest[-1])
        gamma = torch.tensor([self._gamma(value) for value in largest.tolist()], dtype=torch.float64)
        kept = self._uniform(len(ratios)) <= torch.sigmoid(self._raw(ratios, largest) - gamma)
        proposed = self.diagnostics.get("proposed", 0) + len(ratios)
        accepted = self.diagnostics.get("accepted", 0) + int(kept.sum())
        self.diagnostics |= {
            "proposed": proposed, "accepted": accepted, "acceptance": accepted / proposed,
            "gamma": float(gamma[-1]), "largest log ratio": self._largest,
        }  # fmt: skip
        return kept

    def _drawn(self, count: int, label: int | None) -> Held:
        parts: list[Held] = []
        sizes: list[int] = []
        waiting = 0  # candidates since one was kept
        while (missing := count - sum(sizes)) > 0:
            self._check_limit(waiting / 10)
            size = min(self._batch, math.ceil(missing / self._rate) + 1)
            output, inputs, response = self._judged(self._source.draw(size, self._generator, label), size)
            index = self._accepted(response).nonzero().flatten()[:missing]
            waiting = 0 if len(index) else waiting + size
            if len(index):
                parts.append(self._source.pick((output, inputs), index, size))
                sizes.append(len(index))
        return self._source.joined(parts, sizes)

    @property
    def _rate(self) -> float:
        """The share that is accepted, as far as is known."""
        return float(self.diagnostics.get("acceptance", self.keep or 1.0)) or 1 / self._batch

    def _refined(self, inputs: Inputs, count: int) -> Held:
        source, parts, places = self._source, [], []
        missing, proposed, rounds = torch.arange(count), inputs, 0
        while len(missing):
            rounds += 1
            self._check_limit(rounds)
            output, made_of, response = self._judged(proposed, len(missing))
            kept = self._accepted(response)
            if kept.any():
                parts.append(source.pick((output, made_of), kept.nonzero().flatten(), len(missing)))
                places.append(missing[kept])
            missing = missing[~kept]
            if len(missing):
                waiting = source.pick_inputs(inputs, missing, count)
                proposed = source.redraw(waiting, len(missing), self._generator)
        all_of_them = source.joined(parts, list(map(len, places)))
        return source.pick(all_of_them, torch.cat(places).argsort(), count)

    def _check_limit(self, tried: float) -> None:
        if tried > _LIMIT:
            instead = "Pass keep=0.25" if self.keep is None else "Use TopK, which needs no ratio"
            seen = self.diagnostics
            raise SettingError(
                f"DRS accepted {seen['accepted']} of {seen['proposed']} samples: D finds nearly all of them, or "
                f"those with these labels, far less probable than its favourite. {instead}; or calibrate D: "
                "fbwrap.calibrate(loop, real_samples)."
            )


def shift_for(raw: Tensor, keep: float) -> float:
    """γ with which the mean of σ(F − γ) is ``keep``, by bisection.

    Examples:
        >>> round(shift_for(torch.ones(10, dtype=torch.float64), 0.5), 6)
        1.0
    """
    low, high = float(raw.min()) - 50.0, float(raw.max()) + 50.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(raw - middle).mean()) > keep else (low, middle)
    return (low + high) / 2


class MHGAN(Sampler):
    """Metropolis-Hastings GAN: a chain of samples for each one returned, whose end is distributed like the data.

    Examples:
        >>> calibration = fbwrap.calibrate(loop, real)                   # doctest: +SKIP
        >>> fbwrap.samplers.MHGAN(loop, calibration=calibration)(16)     # doctest: +SKIP

    A proposed sample y' takes the place of y with the probability min(1, exp(d(y') − d(y))), d = log p/q by D.

    Args:
        length: K, proposals for each sample.

    With a calibration the chains begin at D's answers to real samples, as in the paper; a chain that never leaves such
    a beginning gives way to one over the same proposals that begins at the first of them. Without, all begin there.

    Source: Turner et al., ICML 2019, Algorithm 1 (there K = 640).
    """

    wants_ratio = True
    chooses = True

    def __init__(self, loop: Loop | Sampler, *, length: int = 100, **options: Any):
        super().__init__(loop, **options)
        if length < 1:
            raise SettingError(f"length={length}: pass 1 proposal or more.")
        self.length = length

    def _refined(self, inputs: Inputs, count: int) -> Held:
        source = self._source
        output, made_of, response = self._judged(inputs, count)
        held: Held = (output, made_of)
        now = self._ratio(response).cpu().double()
        moves, unmoved = 0, torch.ones(count, dtype=torch.bool)
        real = self.calibration.real if self.calibration is not None else None
        if real is not None:
            begun = real[torch.randint(len(real), (count,), generator=self._generator)]
            from_real = self._uniform(count).log() <= now - begun
            begun = torch.where(from_real, now, begun)
            held_from_real = held
        for _ in range(self.length - 1):
            proposed = source.redraw(inputs, count, self._generator)
            output, made_of, response = self._judged(proposed, count)
            fresh = self._ratio(response).cpu().double()
            taken = self._uniform(count).log() <= fresh - now
            held, now = source.where(taken, (output, made_of), held), torch.where(taken, fresh, now)
            moves += int(taken.sum())
            unmoved &= ~taken
            if real is not None:
                taken = self._uniform(count).log() <= fresh - begun
                held_from_real = source.where(taken, (output, made_of), held_from_real)
                begun = torch.where(taken, fresh, begun)
                from_real |= taken
        if real is not None:
            held = source.where(from_real, held_from_real, held)
            self._tally("stayed at a real sample", count - int(from_real.sum()), count)
        self._tally("acceptance", moves, count * max(self.length - 1, 1))
        self._tally("chains that never moved", int(unmoved.sum()), count)
        return held[0], held[1]


class TopK(Sampler):
    """The best of n samples by D's answer, for each one returned; any D will do, for only the order counts.

    Examples:
        >>> fbwrap.samplers.TopK(loop, of=4)(16)                         # doctest: +SKIP

    Args:
        of: n.

    What is returned is not distributed like the data, however good D is: variety falls with n.
    """

    chooses = True

    def __init__(self, loop: Loop | Sampler, *, of: int = 4, **options: Any):
        super().__init__(loop, **options)
        if of < 1:
            raise SettingError(f"of={of}: pass 1 or more.")
        self.of = of

    def _refined(self, inputs: Inputs, count: int) -> Held:
        output, made_of, response = self._judged(inputs, count)
        held: Held = (output, made_of)
        first = best = self._potential(response)
        for _ in range(self.of - 1):
            output, made_of, response = self._judged(self._source.redraw(inputs, count, self._generator), count)
            fresh = self._potential(response)
            better = fresh > best
            held, best = self._source.where(better, (output, made_of), held), torch.where(better, fresh, best)
        self._tally_mean("D's answer at first", first)
        self._tally_mean("D's answer at best", best)
        return held[0], held[1]
