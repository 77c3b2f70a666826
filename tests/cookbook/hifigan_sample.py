# in the shape of inference.py
import torch
from lookalikes.audio import HifiG as Generator
from lookalikes.audio import MultiPeriodD as MultiPeriodDiscriminator

h = 16
generator = Generator(h)
generator.load_state_dict(torch.load("g_00000000")["generator"])
generator.eval()
generator.remove_weight_norm()
with torch.no_grad():
    y_g_hat = generator(torch.randn(1, 10, 12))
result = y_g_hat
