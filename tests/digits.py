"""The pretrained pair and head of examples/digits, for tests."""

from pathlib import Path

from safetensors.torch import load_file

import fbwrap
from fbwrap.app.digits import Discriminator, Generator

FOLDER = Path(__file__).parent.parent / "examples" / "digits"
NETWORKS = [
    "-g", "fbwrap.app.digits:Generator", "-d", "fbwrap.app.digits:Discriminator",
    "--weights", FOLDER / "generator.safetensors", "--critic-weights", FOLDER / "discriminator.safetensors",
]  # fmt: skip


def pair():
    G, D = Generator().eval(), Discriminator().eval()
    G.load_state_dict(load_file(FOLDER / "generator.safetensors"))
    D.load_state_dict(load_file(FOLDER / "discriminator.safetensors"))
    return G, D


def loaded():
    return fbwrap.from_pretrained(FOLDER / "head", *pair())
