import torch
from families import module
from lookalikes.latent import dcgan_g

module("timm")
G = dcgan_g(size=32).eval()
G.load_state_dict(torch.load("G.pth"))
with torch.no_grad():
    image = G(torch.randn(2, 8, 1, 1))
result = image
