"""Checkpoints of super-resolution models as generators, through spandrel.

Examples:
    >>> loop = fbwrap.attach("spandrel:RealESRGAN_x4plus.pth", D)               # doctest: +SKIP
    >>> image = loop(low_resolution)                                            # doctest: +SKIP
    >>> loop = fbwrap.attach("spandrel:them/sr/x4.safetensors", D)              # doctest: +SKIP

The file is read with ``weights_only=True`` (or as safetensors); spandrel then tells the architecture by its keys.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from fbwrap.adapter import Adapter
from fbwrap.errors import SettingError, WeightsError
from fbwrap.files.weights_file import read_weights
from fbwrap.weights import is_average


def load(path: str) -> nn.Module:
    """The network in a checkpoint, in eval mode."""
    try:
        import spandrel
    except ImportError as error:
        raise SettingError(f"'spandrel:{path}' needs spandrel: pip install spandrel ({error}).") from error
    try:
        model = spandrel.ModelLoader().load_from_state_dict(_state(read_weights(path))).model
    except spandrel.UnsupportedModelError as error:
        raise WeightsError(f"spandrel does not know the network in {path}: {error}") from error
    except (WeightsError, OSError):
        raise
    except Exception as error:  # a file, perhaps a stranger's, can fail in any way
        raise WeightsError(f"The network in {path} cannot be made: {type(error).__name__}: {error}") from error
    network: nn.Module = model
    return network.eval()


def _state(tree: object) -> dict[str, Tensor]:
    """The state dict in a file; an average where there is one."""
    if not isinstance(tree, Mapping):
        raise WeightsError(f"The checkpoint holds {type(tree).__name__}, not weights by name.")
    averages = [key for key in tree if isinstance(key, str) and is_average(key)]
    for key in (*averages, "params", "state_dict", "model_state_dict", "model", "net"):
        if isinstance(tree.get(key), Mapping):
            return _state(tree[key])
    return dict(tree)


ADAPTER = Adapter(
    name="spandrel",
    citation="chaiNNer, spandrel",
    holders={"ImageModelDescriptor": "model"},
    load=load,
    files=lambda inside: (inside,),
)
