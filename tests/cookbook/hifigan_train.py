# in the shape of jik876/hifi-gan train.py
import itertools

import torch
from lookalikes.audio import HifiG, MultiPeriodD

generator = HifiG()
mpd = MultiPeriodD()
optim_g = torch.optim.AdamW(generator.parameters(), 2e-4, betas=[0.8, 0.99])
optim_d = torch.optim.AdamW(itertools.chain(mpd.parameters()), 2e-4, betas=[0.8, 0.99])
for _ in range(2):
    x, y = torch.randn(2, 10, 8), torch.rand(2, 1, 128) * 2 - 1
    y_g_hat = generator(x)
    optim_d.zero_grad()
    y_df_hat_r, y_df_hat_g, _, _ = mpd(y, y_g_hat.detach())
    (sum(((1 - r) ** 2).mean() for r in y_df_hat_r) + sum((g**2).mean() for g in y_df_hat_g)).backward()
    optim_d.step()
    optim_g.zero_grad()
    _, y_df_hat_g, _, _ = mpd(y, y_g_hat)
    loss_gen_all = sum(((1 - g) ** 2).mean() for g in y_df_hat_g)
    loss_gen_all.backward()
    optim_g.step()
torch.save({"generator": generator.state_dict()}, "g_00000000")
