"""The weights of a G that was trained here, beside the head that fits it.

Examples:
    >>> import fbwrap, tempfile
    >>> from torch import nn
    >>> path = save_generator(nn.Linear(2, 2), tempfile.mkdtemp())
    >>> path.name, fbwrap.load_weights(nn.Linear(2, 2), path).keys
    ('generator.safetensors', ())
"""

import os
from pathlib import Path

from torch import nn

from fbwrap.engine.names import unwrap
from fbwrap.errors import TrainingError
from fbwrap.files.atomic import atomic_write
from fbwrap.heads.files import GENERATOR


def save_generator(generator: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write ``generator.safetensors``: whole or not at all.

    Raises:
        TrainingError: it cannot be written.
    """
    from safetensors.torch import save_model

    target = Path(folder) / GENERATOR
    try:
        with atomic_write(target, durable=True) as part:
            save_model(unwrap(generator), str(part))
    except Exception as error:
        raise TrainingError(
            f"G's weights could not be written to {target}: {error}. The checkpoints are unharmed; make room and "
            "resume."
        ) from error
    return target
