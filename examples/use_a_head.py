"""Use a head that somebody trained: load it onto their generator, and look at what it does.

    python examples/use_a_head.py

The pretrained pair of fbwrap.app.digits, and the head of examples/digits (made by ``fbwrap quickstart`` on
scikit-learn's digits). Writes use_a_head.png: rows are latents, columns the
strength α from 0, the untouched generator, to 1.
"""

from pathlib import Path

import torch

import fbwrap
from fbwrap.app.digits import latents, pretrained

FOLDER = Path(__file__).parent / "digits"


def main() -> None:
    G, D = pretrained()
    loop = fbwrap.from_pretrained(FOLDER / "head", G, D)
    print(loop.plan)
    torch.manual_seed(0)
    figure = fbwrap.plots.strengths(loop, latents(6))
    print(fbwrap.plots.save(figure, "use_a_head.png", loop, seed=0))


if __name__ == "__main__":
    main()
