"""``python -m fbwrap``: the command line."""

from .app import main

main()
