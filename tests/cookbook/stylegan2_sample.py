# in the shape of generate.py
import torch
from lookalikes.latent import StyleGan2D as Discriminator
from lookalikes.latent import StyleGan2G as Generator

size = 8
g_ema = Generator(size).eval()
checkpoint = torch.load("checkpoint.pt")
g_ema.load_state_dict(checkpoint["g_ema"])
with torch.no_grad():
    sample, _ = g_ema([torch.randn(2, 8)])
result = sample
