import types

import torch
from lookalikes.latent import MimicryD, MimicryG

sngan = types.SimpleNamespace(SNGANGenerator32=MimicryG, SNGANDiscriminator32=MimicryD)
netG = sngan.SNGANGenerator32().eval()
netG.load_state_dict(torch.load("netG.pth"))
with torch.no_grad():
    fake_images = netG.generate_images(3)
result = fake_images
