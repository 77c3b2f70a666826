"""The interactive page as a Hugging Face Space, on the pretrained digits and a head for them.

    FBWRAP_HEAD=examples/digits/head python examples/space/app.py

``FBWRAP_HEAD`` is a folder or user/name on the Hub. For another generator, make its networks in ``networks``.
"""

import os

from torch import nn

import fbwrap
from fbwrap.app.digits import pretrained
from fbwrap.app.page import CSS, build, theme
from fbwrap.app.studio import Studio

HEAD = os.environ.get("FBWRAP_HEAD", "head")


def networks() -> tuple[nn.Module, nn.Module]:
    """G and D that the head belongs to, with their weights."""
    return pretrained()


def page():
    """The page, as gradio ``Blocks``."""
    return build(Studio(fbwrap.from_pretrained(HEAD, *networks()), HEAD))


if __name__ == "__main__":
    page().launch(theme=theme(), css=CSS)
