"""Steer feedback: let D look at another picture (AFL's feedback switching), or correct one half of the picture only.

    python examples/reference_and_mask.py

The pretrained pair of fbwrap.app.digits, and the head of examples/digits. Writes reference_and_mask.png; its rows: the
base, feedback, feedback with D looking at a real digit, feedback in the left half alone.
"""

from pathlib import Path

import torch
from fbwrap.recipes.training.pictures import save_grid

import fbwrap
from fbwrap.app.digits import data, latents, pretrained

FOLDER = Path(__file__).parent / "digits"


@torch.no_grad()
def main() -> None:
    G, D = pretrained()
    loop = fbwrap.from_pretrained(FOLDER / "head", G, D)
    torch.manual_seed(1)
    z, images = latents(8), data()[0]

    base = loop.rollout(z, steps=0).output
    feedback = loop(z)
    switched = loop.rollout(z, reference=images[:8]).output  # D looks at real digits
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1  # a strength that is a map: where corrections may act
    half = loop.rollout(z, strength=left).output

    print(save_grid([base, feedback, switched, half], "reference_and_mask.png", scale=8))


if __name__ == "__main__":
    main()
