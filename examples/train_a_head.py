"""Train a head for a generator that is there already; G stays as it is.

    python examples/train_a_head.py [--steps 200]

The pretrained pair of fbwrap.app.digits. 200 steps take some 10 seconds on one core. Writes train_a_head.png: without
feedback, with, and the difference; and the head to runs/digits.
"""

import argparse

import torch

import fbwrap
from fbwrap.app.digits import data, latents, pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)  # such small networks are slower on several
    torch.manual_seed(0)
    G, D = pretrained()
    images, _ = data()
    z = latents(8)
    before = G(z).detach()

    loop = fbwrap.attach(G, D, [("up1", "conv2"), ("up2", "conv1")], example=latents(2))
    recipe = fbwrap.recipes.AFL(loop, loss="bce", lr=5e-4, critic_lr=4e-4, r1_every=1)
    fit = recipe.fit(images, latents, options.steps, out="runs/digits", progress=False)
    print(f"{fit.steps} steps in {fit.seconds:.0f} s; the head is in runs/digits/head")

    assert torch.equal(G(z), before), "G is what it was"
    print(fbwrap.plots.save(fbwrap.plots.difference(before, loop(z)), "train_a_head.png", loop, seed=0))


if __name__ == "__main__":
    main()
