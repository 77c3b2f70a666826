import torch
from lookalikes.latent import DcganD as Discriminator
from lookalikes.latent import dcgan_g as Generator

ngpu = 64
netG = Generator(size=ngpu).eval()
netG.load_state_dict(torch.load("netG.pth"))
fixed_noise = torch.randn(2, 8, 1, 1)
fake = netG(fixed_noise)
result = fake
