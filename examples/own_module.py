"""A feedback module of one's own, in a training loop of one's own.

    python examples/own_module.py [--steps 150]

``Gate`` scales G's feature by what D sees: a few lines, a subclass of ``fbwrap.FeedbackModule``. It starts as the
identity, is trained with ``fbwrap.recipes.afl_step`` in a plain loop, and is saved and loaded like any other. Writes
own_module.png.
"""

import argparse
import copy

import torch
from fbwrap.recipes import Critic, Options, afl_step
from torch import Tensor, nn

import fbwrap
from fbwrap.app.digits import data, latents, pretrained


class Gate(fbwrap.FeedbackModule):
    """Correction: tanh(W θ) ∘ φ, W zero at the start."""

    def __init__(self, feature, *signals) -> None:
        super().__init__(feature, *signals)
        self.read = nn.Conv2d(sum(signal.channels for signal in signals), feature.channels, 3, 1, 1)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        return self.read(torch.cat(signals, 1)).tanh() * feature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    G, D = pretrained()
    images, _ = data()

    loop = fbwrap.attach(G, copy.deepcopy(D), [("up1", "conv2")], module=Gate, example=latents(2))
    loop.generator.requires_grad_(False)
    critic, options = Critic(loop.discriminator, loop.critic_input), Options(loss="bce", r1_every=1)
    head_optimizer = torch.optim.Adam(loop.parameters(), 1e-3, betas=options.betas)
    critic_optimizer = torch.optim.Adam(loop.discriminator.parameters(), 4e-4, betas=options.betas)
    loop.train()
    for step in range(steps):
        real = images[torch.randint(len(images), (64,))]
        losses = afl_step(loop, critic, latents(64), real, head_optimizer, critic_optimizer, options, step)
    loop.eval()
    print(losses)

    loop.save_pretrained("runs/gate")
    again = fbwrap.from_pretrained("runs/gate", G, D, modules={"Gate": Gate})
    z = latents(8)
    assert torch.equal(again(z), loop(z))
    print(fbwrap.plots.save(fbwrap.plots.difference(G(z), loop(z)), "own_module.png", loop, seed=0))


if __name__ == "__main__":
    main()
