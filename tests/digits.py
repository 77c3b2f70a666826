"""The pretrained pair of fbwrap.app.digits and the head of examples/digits, for tests."""

from pathlib import Path

import fbwrap
from fbwrap.app.digits import FOLDER as PAIR
from fbwrap.app.digits import pretrained as pair

FOLDER = Path(__file__).parent.parent / "examples" / "digits"
NETWORKS = [
    "-g", "fbwrap.app.digits:Generator", "-d", "fbwrap.app.digits:Discriminator",
    "--weights", PAIR / "generator.safetensors", "--critic-weights", PAIR / "discriminator.safetensors",
]  # fmt: skip


def loaded():
    return fbwrap.from_pretrained(FOLDER / "head", *pair())
