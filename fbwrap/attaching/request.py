"""What a user asked of ``fbwrap.attach``, in one value; its fields are described there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..adapter import Adapter
from ..feedback.critic import CriticInput

Layers = str | Sequence[Any] | None


@dataclass(frozen=True, eq=False)
class Request:
    """The arguments of :func:`fbwrap.attach`.

    Attributes:
        expected: shapes of the modules' weights, by name: others are refused before memory is taken for them. Of heads.
    """

    generator: Any
    discriminator: nn.Module | str | None
    layers: Layers
    module: Any = None
    budget: float | None = None
    example: object = None
    critic_input: str | CriticInput | None = None
    response: str | Callable[[Any], Tensor] | None = None
    steps: int | None = None
    strength: float | Tensor = 1.0
    first: Literal["base", "zeros"] | None = None
    critic_mode: Literal["eval", "inherit"] = "eval"
    detach_signals: bool = True
    method: str | None = None
    value_range: tuple[float, float] | None = None
    critic_size: str | None = None
    pack: int | None = None
    adapter: str | Adapter | None = "auto"
    replay: bool = True
    expected: Mapping[str, tuple[int, ...]] | None = None

    @property
    def auto(self) -> bool:
        """Whether the links are left open: ``"auto"`` or ``"auto:PLACEMENT"``."""
        return isinstance(self.layers, str) and self.layers.partition(":")[0] == "auto"
