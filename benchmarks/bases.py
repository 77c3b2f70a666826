"""Pretrained pairs, from a plain training loop that knows nothing of fbwrap: the GAN that a user finds.

Example:
    >>> pretrain(G, D, images, steps=60_000, loss="hinge", betas=(0.0, 0.9))         # doctest: +SKIP

Every step is the same few kernels on tensors that stay where they are, so on a GPU the whole step is recorded once as a
CUDA graph and replayed: small networks are otherwise held up by the launching of kernels.
"""

import copy
from collections.abc import Callable

import torch
from fbwrap.recipes.training.losses import LOSSES, gradient_penalty
from torch import Tensor, nn


def pretrain(
    G: nn.Module,
    D: nn.Module,
    real: Tensor,
    steps: int,
    *,
    loss: str,
    betas: tuple[float, float],
    latents: Callable[[int], Tensor],
    lr: float = 2e-4,
    critic_steps: int = 1,
    batch: int = 64,
    ema: float = 0.999,
    penalty: float = 10.0,
    mixed_precision: str = "no",
    seed: int = 0,
) -> None:
    """Train G and D in place; G ends as its average. Adam, both rates falling linearly to zero.

    Args:
        real, latents: on the networks' device.
        penalty: of WGAN-GP, with ``loss="wasserstein_gp"``.
        mixed_precision: ``"no"`` or ``"bf16"``.
    """
    torch.manual_seed(seed)
    on_gpu = real.is_cuda
    critic_loss, generator_loss = LOSSES[loss]
    average = copy.deepcopy(G)
    rate = torch.tensor(lr, device=real.device)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=rate if on_gpu else lr, betas=betas, capturable=on_gpu) for net in (G, D)
    ]
    means, news = ([t for t in net.state_dict().values() if t.is_floating_point()] for net in (average, G))
    for net in (G, D):
        net.train()

    def passes() -> torch.autocast:
        return torch.autocast(real.device.type, torch.bfloat16, enabled=mixed_precision == "bf16")

    def step() -> None:
        for _ in range(critic_steps):
            rows = torch.randint(len(real), (batch,), device=real.device)
            true = real[rows]
            with passes():
                with torch.no_grad():
                    made = G(latents(batch)).float()
                total = critic_loss(D(true).float(), D(made).float())
            if loss == "wasserstein_gp":
                total = total + penalty * gradient_penalty(D, true, made)
            optimizers[1].zero_grad()
            total.backward()
            optimizers[1].step()
        D.requires_grad_(False)
        optimizers[0].zero_grad()
        with passes():
            player = generator_loss(D(G(latents(batch))).float())
        player.backward()
        optimizers[0].step()
        D.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(means, news, 1 - ema)

    run = _recorded(step) if on_gpu else step
    for done in range(steps):
        if done == steps // 100:  # the beginning is soon forgotten
            average.load_state_dict(G.state_dict())
        if done % 100 == 0:
            rate.fill_(lr * (1 - done / steps))
            if not on_gpu:
                for optimizer in optimizers:
                    optimizer.param_groups[0]["lr"] = float(rate)
        run()
    G.load_state_dict(average.state_dict())
    for net in (G, D):
        net.eval()


def _recorded(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph, after a few that are run as they are."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
