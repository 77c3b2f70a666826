# in the shape of generate.py
import torch
from lookalikes.latent import StyleGan2D as Discriminator
from lookalikes.latent import StyleGan2G as Generator

size = 8
torch.manual_seed(0)
g_ema = Generator(size).eval()
discriminator = Discriminator(size).eval()
with torch.no_grad():
    sample, _ = g_ema([torch.randn(2, 8)])
result = sample
