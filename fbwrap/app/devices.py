"""Where a command runs: ``--device auto`` takes CUDA where it is, then MPS, then the CPU, and says so once.

Examples:
    >>> device_of("cpu")
    'cpu'
"""

import logging
import os

import torch

from fbwrap.errors import SettingError, short

logger = logging.getLogger("fbwrap")


def device_of(asked: str) -> str:
    """The device that was asked for; under torchrun or ``accelerate launch`` ``cuda`` is the GPU of this process.

    Raises:
        SettingError: there is no such device.
    """
    rank = os.environ.get("LOCAL_RANK")
    if asked == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        asked = f"cuda:{rank}" if found == "cuda" and rank is not None else found
        logger.info("Running on %s.", asked)
        return asked
    if asked == "cuda" and rank is not None:
        asked = f"cuda:{rank}"
    try:
        torch.empty(0, device=asked)
    except Exception as error:
        why = short(str(error).splitlines()[0] if str(error) else type(error).__name__, 100)
        raise SettingError(f"--device {asked}: there is no such device here ({why}). Pass auto, or cpu.") from error
    return asked
