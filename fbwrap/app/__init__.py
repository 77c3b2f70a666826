"""The command line and what it runs."""

import sys

from fbwrap.errors import extra


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"Error: the command line needs more packages ({error}): {extra('app')}\n")
        sys.exit(1)
    run()
