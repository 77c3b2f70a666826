"""A file that is whole or not there: written beside its place, and put there when it is done.

Examples:
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "notes.txt"
    >>> with atomic_write(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text(), [path.name for path in target.parent.iterdir()]
    ('whole', ['notes.txt'])
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: Path, durable: bool = False) -> Iterator[Path]:
    """A file to write to, which takes the target's place when the block ends; the folder is made if it is missing.

    An exception (Ctrl-C, a full disk) leaves the target as it was, and nothing beside it. A process that is killed
    leaves a file ``.NAME-….part.SUFFIX``.

    Args:
        durable: wait until the disk has it, so that it outlives a power cut.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.stem}-{secrets.token_hex(4)}.part{target.suffix}")
    try:
        part.touch(exist_ok=False)  # with the permissions that the user's files get
        yield part
        if durable:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
