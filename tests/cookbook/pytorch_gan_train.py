# in the shape of eriklindernoren/PyTorch-GAN implementations/dcgan/dcgan.py
import torch
from lookalikes.latent import WganGpD, WganGpG

adversarial_loss = torch.nn.BCEWithLogitsLoss()
generator = WganGpG()
discriminator = WganGpD()
optimizer_G = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))
optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=0.0002, betas=(0.5, 0.999))
valid, fake = torch.ones(4, 1), torch.zeros(4, 1)
for i in range(3):
    real_imgs = torch.rand(4, 3, 32, 32)
    optimizer_G.zero_grad()
    z = torch.randn(4, 8)
    gen_imgs = generator(z)
    g_loss = adversarial_loss(discriminator(gen_imgs), valid)
    g_loss.backward()
    optimizer_G.step()
    optimizer_D.zero_grad()
    real_loss = adversarial_loss(discriminator(real_imgs), valid)
    d_loss = real_loss + adversarial_loss(discriminator(gen_imgs.detach()), fake)
    d_loss.backward()
    optimizer_D.step()
