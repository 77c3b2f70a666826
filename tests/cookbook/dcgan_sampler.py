import torch
from lookalikes.latent import DcganD as Discriminator
from lookalikes.latent import dcgan_g as Generator

ngpu = 64
torch.manual_seed(0)
netG, netD = Generator(size=ngpu).eval(), Discriminator(size=ngpu).eval()
fixed_noise = torch.randn(6, 8, 1, 1)
fake = netG(fixed_noise)
result = fake
