"""Networks that a loop cannot run on, refused at once.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> with torch.device("meta"):
    ...     net = nn.Linear(1, 1)
    >>> check_loaded("G", net)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fbwrap.errors.UnsupportedError: G has no weights: weight is on the meta device. Make it on a real device ...
"""

from torch import nn

from ..errors import UnsupportedError
from .names import is_scripted, unwrap


def check_loaded(what: str, network: nn.Module) -> None:
    """Refuse networks whose layers or weights are not where they can be used.

    Args:
        what: ``"G"`` or ``"D"``.

    Raises:
        UnsupportedError: a scripted G; weights on the meta device, or offloaded.
    """
    net = unwrap(network)
    if is_scripted(net) and what == "G":
        raise UnsupportedError(
            "G is a scripted or traced module: its layers run without Python, and cannot be reached. Attach to the "
            "module that it was made of, with the same weights."
        )
    absent = [name for name, tensor in (*net.named_parameters(), *net.named_buffers()) if tensor.is_meta]
    if not absent:
        return
    if any(hasattr(module, "_hf_hook") for module in net.modules()):
        raise UnsupportedError(
            f"{what} is offloaded by accelerate ({absent[0]} is not in memory), and a loop calls its layers one by "
            "one. Load it without device_map or offloading, or: "
            f"accelerate.hooks.remove_hook_from_submodules({what})."
        )
    raise UnsupportedError(
        f"{what} has no weights: {absent[0]} is on the meta device. Make it on a real device and load its weights: "
        f"{what}.to_empty(device='cpu'), then fbwrap.load_weights({what}, FILE)."
    )
