"""Feedback in a super-resolution network (AFL §4.4), all of it small enough for half a minute on one core.

    python examples/upscale.py [--steps 400]

An RRDBNet of two blocks learns x4 from patches of scikit-learn's two photographs by L1; a patch discriminator and two
dual modules then learn with G frozen, relativistic loss and L1. Writes upscale.png: bicubic, G, and G
with feedback. It shows how it is done, not what it can do: that is in docs/results.
"""

import argparse

import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL
from fbwrap.recipes.networks.residual import PatchDiscriminator, RRDBNet
from fbwrap.recipes.training.pictures import save_grid
from sklearn.datasets import load_sample_images
from torch import Tensor

import fbwrap


def photographs() -> list[Tensor]:
    """Two photographs (3, H, W) in [0, 1]."""
    return [torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in load_sample_images().images]


def patches(photos: list[Tensor], n: int, side: int = 64) -> tuple[Tensor, Tensor]:
    """Patches in low and in high resolution."""
    found = []
    for _ in range(n):
        photo = photos[int(torch.randint(len(photos), ()))]
        top, left = (int(torch.randint(size - side, ())) for size in photo.shape[1:])
        found.append(photo[:, top : top + side, left : left + side])
    high = torch.stack(found)
    return F.interpolate(high, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1), high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    photos = photographs()
    G, D = RRDBNet(16, 2, 8), PatchDiscriminator(3, 16)
    optimizer = torch.optim.Adam(G.parameters(), 5e-4)
    for _ in range(steps):
        low, high = patches(photos, 4)
        optimizer.zero_grad()
        F.l1_loss(G(low), high).backward()
        optimizer.step()

    links = [("body.0", "main.1"), ("body.1", "main.1")]  # D's second stage has the low resolution's size
    loop = fbwrap.attach(G.eval(), D, links, module={"kind": "dual", "norm": "group"}, example=torch.rand(1, 3, 16, 16))
    options = {"loss": "relativistic", "adversarial": 1e-2, "reconstruction": 1.0, "batch": 4, "critic_mode": "train",
               "lr": 5e-4, "critic_lr": 4e-4}  # fmt: skip
    low, high = patches(photos, 64)
    AFL(loop, **options, value_range=(0.0, 1.0)).fit(fbwrap.recipes.Pairs(low, high), steps=steps // 2, progress=False)

    low, high = patches(photos, 4, 128)
    with torch.no_grad():
        bicubic = F.interpolate(low, scale_factor=4, mode="bicubic")
        rows = [bicubic, G(low), loop(low), high]
    save_grid(rows, "upscale.png", (0.0, 1.0), scale=1)
    print("upscale.png: bicubic, G, G with feedback, the photograph")


if __name__ == "__main__":
    main()
