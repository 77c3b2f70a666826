"""Scripts of ``examples/`` as modules, for benchmarks that measure what an example shows.

Example:
    >>> known = example("networks")                                                  # doctest: +SKIP
    >>> G = known.WganMnistG()                                                       # doctest: +SKIP
"""

import importlib.util
from pathlib import Path
from typing import Any


def example(name: str) -> Any:
    """The module ``examples/NAME.py``."""
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
