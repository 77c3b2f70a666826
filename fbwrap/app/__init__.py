"""The command line and what it runs."""

import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"Error: the command line needs more packages ({error}): pip install 'fbwrap[app]'\n")
        sys.exit(1)
    run()
