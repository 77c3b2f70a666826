"""Hooks of the site: fbwrap as it is installed, where ``fbwrap.recipes`` and ``fbwrap.adapters`` are its folders; links
of notebooks; the code of the examples."""

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


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Each example's code, folded away, at the end of its section."""
    if page.file.src_uri != "examples.md":
        return markdown

    def with_code(section: str) -> str:
        path = ROOT / "examples" / f"{section.partition(chr(10))[0]}.py"
        if not path.is_file():
            return section
        code = "".join(f"    {line}".rstrip() + "\n" for line in path.read_text().splitlines())
        return f'{section.rstrip()}\n\n??? example "examples/{path.name}"\n\n    ```python\n{code}    ```\n\n'

    first, *sections = markdown.split("\n## ")
    return "\n## ".join([first, *map(with_code, sections)])


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Let the reference be read from a copy that is laid out so."""
    package = Path(_copy.name) / "fbwrap"
    skip = shutil.ignore_patterns("__pycache__")
    for source, target in (("fbwrap", package), ("recipes", package / "recipes"), ("adapters", package / "adapters")):
        shutil.copytree(ROOT / source, target, ignore=skip, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_copy.name]
    return config
