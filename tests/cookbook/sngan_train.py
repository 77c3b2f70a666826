# in the shape of christiancosgrove/pytorch-spectral-normalization-gan main.py
import torch
from lookalikes.latent import CosgroveD, dcgan_g
from torch import nn, optim

discriminator = CosgroveD()
generator = dcgan_g(size=32)
optim_disc = optim.Adam(filter(lambda p: p.requires_grad, discriminator.parameters()), lr=2e-4, betas=(0.0, 0.9))
optim_gen = optim.Adam(generator.parameters(), lr=2e-4, betas=(0.0, 0.9))
for _ in range(3):
    data, z = torch.rand(4, 3, 32, 32), torch.randn(4, 8, 1, 1)
    optim_disc.zero_grad()
    optim_gen.zero_grad()
    disc_loss = nn.ReLU()(1.0 - discriminator(data)).mean() + nn.ReLU()(1.0 + discriminator(generator(z))).mean()
    disc_loss.backward()
    optim_disc.step()
    optim_disc.zero_grad()
    optim_gen.zero_grad()
    gen_loss = -discriminator(generator(z)).mean()
    gen_loss.backward()
    optim_gen.step()
torch.save(generator.state_dict(), "gen_0")
