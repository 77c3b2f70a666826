"""FAL on voxels: G, D and an adaptive spatial transform learn together, T = 3.

    python examples/cubes.py [--steps 250]

Cubes of 16x16x16 that hold a random box; half a minute on one core. Writes cubes.png (a view and slices of the last
step's cubes) and cubes.gif (the steps one after the other). 250 steps are the beginning of a training.
"""

import argparse

import torch
from fbwrap.recipes import FAL
from fbwrap.recipes.networks import voxel
from torch import Tensor

import fbwrap


def boxes(n: int, side: int = 16) -> Tensor:
    """(n, 1, side, side, side): one random box each."""
    cubes = torch.zeros(n, 1, side, side, side)
    for cube in cubes:
        low = torch.randint(1, side // 2 - 1, (3,)).tolist()
        high = torch.randint(side // 2 + 1, side - 1, (3,)).tolist()
        cube[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    return cubes


def latents(n: int) -> Tensor:
    return torch.randn(n, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    G, D = voxel.Generator(16, 8, 16), voxel.Discriminator(8, 16)
    loop = fbwrap.attach(G, D, ["up.0"], module="ast", steps=3, example=latents(2))
    options = {
        "loss": "hinge",
        "r1": 0.3,
        "lr": 1e-3,
        "critic_lr": 4e-4,
        "betas": (0.0, 0.9),
        "batch": 16,
        "critic_mode": "train",
        "value_range": (0.0, 1.0),
    }
    FAL(loop, **options).fit(boxes(256), latents, steps, progress=False)
    G.eval()
    with torch.no_grad():
        rollout = loop.rollout(latents(3))
    print(fbwrap.plots.save(fbwrap.plots.voxels(rollout.output), "cubes.png", loop))
    print(fbwrap.plots.animation(rollout, "cubes.gif", value_range=(0.0, 1.0), scale=8))


if __name__ == "__main__":
    main()
