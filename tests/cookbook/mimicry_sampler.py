import types

import torch
from lookalikes.latent import MimicryD, MimicryG

sngan = types.SimpleNamespace(SNGANGenerator32=MimicryG, SNGANDiscriminator32=MimicryD)
torch.manual_seed(0)
netG = sngan.SNGANGenerator32().eval()
netD = sngan.SNGANDiscriminator32().eval()
with torch.no_grad():
    held_out = netG.generate_images(64).roll(1, 2)  # images that neither network was trained on
    fake_images = netG.generate_images(3)
result = fake_images
