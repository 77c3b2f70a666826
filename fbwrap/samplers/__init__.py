"""Samplers: other ways in which D helps at test time, on the same loop, to be compared with feedback or joined to it.

Examples:
    >>> loop = fbwrap.attach(G, D, None, example=z)                      # doctest: +SKIP
    >>> calibration = fbwrap.calibrate(loop, real)                       # doctest: +SKIP
    >>> sampler = fbwrap.samplers.DRS(loop, calibration=calibration)     # doctest: +SKIP
    >>> sampler(16), sampler.cost, sampler.diagnostics                   # doctest: +SKIP

===================== ============================================= ============== ======== ===============
sampler               what it does                                  density ratio  latent   costs a sample
===================== ============================================= ============== ======== ===============
:class:`DRS`          keeps samples by their ratio                  needed         needed   1 / ``keep``
:class:`MHGAN`        a Markov chain of samples                     needed         needed   ``length``
:class:`TopK`         the best of n                                 any answer     needed   ``of``
:class:`DDLS`         Langevin dynamics of latents                  needed         needed   2 ``steps`` + 1
:class:`DGFlow`       latents along the flow of a divergence        needed         needed   2 ``steps`` + 1
:class:`DOT`          latents or samples to where D gains most      any answer     or none  2 ``steps`` + 1
:class:`Collaborative` one layer of G along G's loss                any answer     none     2 ``steps`` + 1
:class:`Plain`        nothing: the loop's own samples               none           needed   1
===================== ============================================= ============== ======== ===============

Costs are in passes of G and D together. ``SAMPLERS`` holds them by name. No sampler changes a weight, a mode or a
statistic of G, D or the feedback modules.
"""

from collections.abc import Mapping

from .base import Drawn, Plain, Sampler
from .calibrate import calibrate
from .calibration import Calibration
from .choosing import DRS, MHGAN, TopK
from .collaborative import Collaborative
from .moving import DDLS, DOT, DGFlow

SAMPLERS: Mapping[str, type[Sampler]] = {
    "plain": Plain, "drs": DRS, "mhgan": MHGAN, "topk": TopK, "ddls": DDLS, "dgflow": DGFlow, "dot": DOT,
    "collaborative": Collaborative,
}  # fmt: skip
__all__ = [
    "DDLS",
    "DOT",
    "DRS",
    "MHGAN",
    "SAMPLERS",
    "Calibration",
    "Collaborative",
    "DGFlow",
    "Drawn",
    "Plain",
    "Sampler",
    "TopK",
    "calibrate",
]
