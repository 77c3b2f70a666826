# a generator without a discriminator, images, and nothing else
import torch
from families import module
from lookalikes.latent import dcgan_g

module("timm")
G = dcgan_g(size=32).eval()
images = torch.rand(8, 3, 32, 32) * 2 - 1
torch.save(G.state_dict(), "G.pth")
