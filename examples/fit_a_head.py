"""Let fbwrap.fit decide whether a head is worth having: training, controls and verdict in one call.

    python examples/fit_a_head.py [--steps 200]

The pretrained pair of fbwrap.app.digits. 200 steps take some 30 seconds on one core; 1200, the default of fbwrap.fit,
two minutes. Writes fit_a_head.png: without feedback, with, and the difference; and the report to runs/fit/report.html.
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

    result = fbwrap.fit(G, D, images, latents=latents, out="runs/fit", steps=options.steps)
    print(result)

    loop = fbwrap.from_pretrained("runs/fit/head", G, D)  # where the verdict is "no gain", its strength is 0
    z = latents(8)
    figure = fbwrap.plots.difference(G(z).detach(), loop(z))
    print(fbwrap.plots.save(figure, "fit_a_head.png", loop, seed=0))


if __name__ == "__main__":
    main()
