"""Spectral norm's power iteration, in torch's two forms: which modules do it, and the vectors that it moves.

Examples:
    >>> from torch import nn
    >>> net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)))
    >>> [[len(vector) for vector in vectors] for _, vectors in power_iterations(net)]
    [[2, 3]]

It goes on where a module is in train mode. A network's own spectral norm (BigGAN's, say) is not told from other code.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_ORIGINAL = "_orig"


def power_iterations(net: nn.Module) -> Iterator[tuple[nn.Module, list[Tensor]]]:
    """Modules that iterate in train mode (the parametrization, or the layer of ``torch.nn.utils.spectral_norm``), and
    their unit vectors u and v."""
    for module in net.modules():
        held = module._buffers
        if type(module).__name__ == "_SpectralNorm":
            names = ["_u", "_v"]
        elif not isinstance(module, _BatchNorm):
            weights = [key.removesuffix(_ORIGINAL) for key in module._parameters if key.endswith(_ORIGINAL)]
            names = [f"{weight}_{vector}" for weight in weights for vector in "uv"]
        else:
            names = []
        vectors = [vector for name in names if (vector := held.get(name)) is not None]
        if vectors:
            yield module, vectors
