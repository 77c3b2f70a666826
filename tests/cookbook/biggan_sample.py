import torch
from lookalikes import latent as model
from lookalikes.latent import BigGanD, BigGanG

model.Generator, model.Discriminator = BigGanG, BigGanD
config = {}
G = model.Generator(**config).eval()
G.load_state_dict(torch.load("G.pth"))
with torch.no_grad():
    images = G(torch.randn(3, 12), G.shared(torch.tensor([0, 1, 2])))
result = images
