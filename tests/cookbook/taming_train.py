# in the shape of CompVis/taming-transformers taming/models/vqgan.py; model.loss holds the discriminator
import types

import torch
from lookalikes.translate import Decoder, NLayerDiscriminator

model = types.SimpleNamespace(
    decoder=Decoder(), loss=types.SimpleNamespace(discriminator=NLayerDiscriminator(name="main"))
)
opt_ae = torch.optim.Adam(list(model.decoder.parameters()), lr=1e-4, betas=(0.5, 0.9))
opt_disc = torch.optim.Adam(model.loss.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.9))
for _ in range(3):
    latents, inputs = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 32, 32)
    reconstructions = model.decoder(latents)
    opt_ae.zero_grad()
    (-model.loss.discriminator(reconstructions).mean() + (inputs - reconstructions).abs().mean()).backward()
    opt_ae.step()
    opt_disc.zero_grad()
    real, fake = model.loss.discriminator(inputs), model.loss.discriminator(reconstructions.detach())
    (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()).backward()
    opt_disc.step()
