"""A new D for a G that came without one, or whose D sees too little: stages that halve the sample, without norms.

``fbwrap.fit`` trains such critics. A head that looks with one says how it was made, so that nobody has to pass it:
``"fresh:critic(1, 28, 28, classes=10)"``.

Examples:
    >>> import torch
    >>> D = FreshCritic((1, 28, 28), classes=10, width=8)
    >>> D.sources, [tuple(part.shape) for part in D(torch.zeros(2, 1, 28, 28))]
    (['stages.0', 'stages.1', 'stages.2'], [(2, 1), (2, 10)])
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fbwrap.adapter import Adapter
from fbwrap.errors import SettingError
from fbwrap.recognition.spec import parse_call

from .zero_critic import ZeroCritic

_CONVS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_SWITCHES = ("naming_is_response", "channels_last")
_SMALLEST = 4  # the side at which the stages end
_MOST = 65_536  # channels, sides, classes: more is no D


class FreshCritic(nn.Module):
    """(N, C, …) to a logit of realness and, with ``classes``, their logits.

    Args:
        shape: of a sample: channels and one to three sides; or channels alone.
        channels_last: samples are (N, …, C): sequences of recurrent networks.
        classes: how many it also names; 0: none.
        naming_is_response: realness is log Σ exp of the classes' logits less log of their number (Salimans et al.
            2016): what is real is what can be named. Else it is a layer of its own.
        width: channels of the first stage.
    """

    def __init__(
        self, shape: Sequence[int], classes: int = 0, naming_is_response: bool = False, width: int = 32,
        channels_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec = _spec(shape, classes, naming_is_response, width, channels_last)
        self.channels_last = channels_last
        channels, sides = shape[0], list(shape[1:])
        stages: list[nn.Module] = []
        for place in range(3 if not sides else max(1, math.ceil(math.log2(max(sides) / _SMALLEST)))):
            wider = width * 2 ** min(place, 3) if sides else 4 * width
            layer = _CONVS[len(sides)](channels, wider, 4, 2, 1) if sides else nn.Linear(channels, wider)
            stages.append(nn.Sequential(layer, nn.LeakyReLU(0.2)))
            channels, sides = wider, [max(1, side // 2) for side in sides]
        self.stages = nn.Sequential(*stages)
        inside = channels * math.prod(sides)
        self.naming = nn.Linear(inside, classes) if classes else None
        self.realness = nn.Linear(inside, 1) if not (classes and naming_is_response) else None

    @property
    def sources(self) -> list[str]:
        """Names of the stages, from the largest feature to the smallest."""
        return [f"stages.{place}" for place in range(len(self.stages))]

    def forward(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, ...]:
        """(realness, classes' logits); without classes (realness,). Real data brings its classes, which are not
        looked at: they are for the loss."""
        feature = self.stages(x.movedim(-1, 1) if self.channels_last else x).flatten(1)
        names = [self.naming(feature)] if self.naming is not None else []
        if self.realness is not None:
            return self.realness(feature), *names
        return names[0].logsumexp(1, keepdim=True) - math.log(names[0].shape[1]), *names


def _spec(shape: Sequence[int], classes: int, naming_is_response: bool, width: int, channels_last: bool) -> str:
    """How it is made, as a name."""
    sides = ", ".join(map(str, shape))
    last = ", channels_last=True" * channels_last
    return f"fresh:critic({sides}, classes={classes}, naming_is_response={naming_is_response}, width={width}{last})"


def build(spec: str, value_range: tuple[float, float], bare: bool = False) -> FreshCritic | ZeroCritic:
    """``"critic(3, 64, 64)"``: for samples of three channels, 64 by 64. ``"zeros([64, 8, 8])"``: a
    :class:`~fbwrap.adapters.zero_critic.ZeroCritic`.

    Args:
        value_range, bare: not looked at: it takes any range, and nothing is fetched.

    Raises:
        SettingError: other arguments than those of the two classes.
    """
    name, shape, named = parse_call(spec)
    if name == "zeros" and not named:
        return ZeroCritic(*shape)
    numbers = (*shape, *(value for key, value in named.items() if key not in _SWITCHES))
    if (
        name != "critic"
        or not 1 <= len(shape) <= 4
        or set(named) - {"classes", "width", *_SWITCHES}
        or any(type(number) is not int or not 0 <= number <= _MOST for number in numbers)
        or min((*shape, named.get("width", 1))) < 1
        or any(type(named.get(switch, False)) is not bool for switch in _SWITCHES)
    ):
        raise SettingError(
            f"'fresh:{spec}': write fresh:critic(CHANNELS, SIDES …), with up to three sides and, if need be, classes=, "
            "naming_is_response=, width= and channels_last=."
        )
    return FreshCritic(shape, **named)


ADAPTER = Adapter(name="fresh", citation="this library's own critic (fbwrap.fit)", build=build)
