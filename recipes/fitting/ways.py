"""Ways to make D see what is wrong: which D, what else it is taught, and the module that it feeds.

Examples:
    >>> [way.name for way in ways_for(published=True, labels=False)]
    ['clusters', 'clusters beside', 'fresh D', 'published D']

Which one is right depends on what the samples lack. A D whose response is how well it can name a sample's class rewards
samples that are clearly of one kind: right where samples are blends of kinds, wrong where they are too alike. A D that
names classes beside its response leaves more room for variety. So several are tried briefly, and the distance to the
validation part decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from fbwrap.adapters.fresh_critic import FreshCritic
from torch import Tensor

from fbwrap.errors import SettingError

_FOLDERS = ("head", "zeros", "without_D")


class NamingLoss:
    """Cross-entropy of the classes that a :class:`FreshCritic` names, on real data."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, answer: tuple[Tensor, ...], real: tuple[Tensor, Tensor]) -> Tensor:
        """Of D's answer to a real batch, and that batch: (samples, classes)."""
        return self.weight * F.cross_entropy(answer[1], real[1])


Teaches = Literal["names as response", "names beside", "nothing", "published"]


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        name: as it stands in the report.
        teaches: what D learns beside telling real from generated; ``"published"``: the D that was given goes on.
        lr: learning rate of the head.
        critic_lr: learning rate of D.
        module: kind of the feedback module.
        links: ``"last"``: one, at the last layer of G that would have one, from all stages of D; ``"each"``: one at
            each of G's resolutions, from the layer of D that is nearest in size, as in the papers.
        critic_ema: decay of the average of D that gives the feedback.
        length: steps, as a multiple of those that are asked for.
        adversarial, reconstruction: weights of the losses; the second is for pairs: the distance to the target.
    """

    name: str
    teaches: Teaches
    lr: float
    critic_lr: float = 4e-4
    module: str = "fpn"
    links: Literal["last", "each"] = "last"
    critic_ema: float = 0.995
    length: float = 1.0
    adversarial: float = 1.0
    reconstruction: float = 0.0

    @property
    def named(self) -> bool:
        """Whether D names classes of the data."""
        return self.teaches in ("names as response", "names beside")

    def critic(self, shape: tuple[int, ...], classes: int, channels_last: bool = False) -> FreshCritic:
        """A fresh D."""
        named, naming = classes if self.named else 0, self.teaches == "names as response"
        return FreshCritic(shape, named, naming, channels_last=channels_last)

    @property
    def losses(self) -> dict[str, Any]:
        """Weights of the losses, as options."""
        return {"adversarial": self.adversarial, "reconstruction": self.reconstruction}

    def auxiliary(self) -> NamingLoss | None:
        """D's further loss."""
        return NamingLoss() if self.named else None


# AFL's own phase 2. What a published D knows is taught slowly: from an average of about the last tenth of the steps
# (the average's decay begins low), and for longer.
PUBLISHED = Way("published D", "published", 1e-4, 2e-4, module="dual", links="each", critic_ema=0.9999, length=3.0)


def ways_for(published: bool, labels: bool, paired: bool = False) -> list[Way]:
    """Those that are tried.

    Args:
        published: whether there is a D that came with G.
        labels: whether the data has the user's own classes, which are named in place of pseudo-classes.
        paired: whether the data is pairs: the distance to the target is then a loss, too.
    """
    if paired:
        pairs = [
            Way("targets", "nothing", 3e-4, adversarial=1e-3, reconstruction=1.0),
            Way("targets and fresh D", "nothing", 3e-4, adversarial=3e-2, reconstruction=1.0),
        ]
        own = Way("targets and published D", "published", 3e-4, 2e-4, adversarial=3e-2, reconstruction=1.0)
        return [*pairs, own] if published else pairs
    what = "labels" if labels else "clusters"
    found = [
        Way(what, "names as response", 6e-4),
        Way(f"{what} beside", "names beside", 1e-4),
        Way("fresh D", "nothing", 1e-4),
    ]
    return [*found, PUBLISHED] if published else found


def chosen_ways(asked: Sequence[str | Way] | None, there: Sequence[Way]) -> list[Way]:
    """Those that a user asked for, of those that are there or as they are.

    Raises:
        SettingError: a name that is none.
    """
    named = {way.name: way for way in there}
    if taken := [way.name for way in asked or () if isinstance(way, Way) and way.name in _FOLDERS]:
        raise SettingError(f"ways: {taken[0]!r} is the name of a folder of every fit. Choose another name.")
    if unknown := [way for way in asked or () if isinstance(way, str) and way not in named]:
        raise SettingError(f"ways: there is no {unknown[0]!r} here. There are {', '.join(map(repr, named))}.")
    return [named[way] if isinstance(way, str) else way for way in (asked or named)]
