"""A hook of the site: fbwrap as it is installed, where ``fbwrap.recipes`` and ``fbwrap.adapters`` are its folders."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parent.parent.parent
_copy = tempfile.TemporaryDirectory(prefix="fbwrap-site-")


def on_page_content(html: str, page: Any, **_: object) -> str:
    """Links from a notebook to pages, which are written as those from one file to another."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'href="(\.\./[\w/-]+)\.md(#[\w-]+)?"', r'href="../\1/\2"', html)


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Let the reference be read from a copy that is laid out so."""
    package = Path(_copy.name) / "fbwrap"
    skip = shutil.ignore_patterns("__pycache__")
    for source, target in (("fbwrap", package), ("recipes", package / "recipes"), ("adapters", package / "adapters")):
        shutil.copytree(ROOT / source, target, ignore=skip, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_copy.name]
    return config
