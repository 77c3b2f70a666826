"""timm: a backbone as the critic, ``"timm:NAME"``; the critic itself is in :mod:`fbwrap.adapters.timm_critic`.

Examples:
    >>> loop = fbwrap.attach(G, "timm:resnet18")                               # doctest: +SKIP
"""

from fbwrap.adapter import Adapter, CriticFamily

from .timm_critic import build

ADAPTER = Adapter(
    name="timm",
    citation="Wightman, PyTorch Image Models; Sauer et al., Projected GANs Converge Faster, NeurIPS 2021",
    critics=(
        CriticFamily(
            "frozen backbone with heads",
            layers={"backbone": "", "level.0": "Level", "head.0.0": "Conv2d"},
            sources=("level.*",),
            loss="bce",
        ),
    ),
    build=build,
)
