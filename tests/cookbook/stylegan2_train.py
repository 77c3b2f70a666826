# in the shape of rosinality/stylegan2-pytorch train.py
import torch
import torch.nn.functional as F
from lookalikes.latent import StyleGan2D, StyleGan2G
from torch import optim

generator = StyleGan2G()
discriminator = StyleGan2D()
g_optim = optim.Adam(generator.parameters(), lr=2e-3, betas=(0.0, 0.99))
d_optim = optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.0, 0.99))
for i in range(3):
    noise = [torch.randn(4, 8), torch.randn(4, 8)]
    fake_img, _ = generator(noise)
    d_loss = F.softplus(-discriminator(torch.rand(4, 3, 16, 16))).mean() + F.softplus(discriminator(fake_img)).mean()
    discriminator.zero_grad()
    d_loss.backward()
    d_optim.step()
    fake_img, _ = generator(noise)
    g_loss = F.softplus(-discriminator(fake_img)).mean()
    generator.zero_grad()
    g_loss.backward()
    g_optim.step()
torch.save({"g_ema": generator.state_dict(), "d": discriminator.state_dict()}, "checkpoint.pt")
