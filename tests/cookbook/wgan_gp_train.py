# in the shape of caogang/wgan-gp gan_cifar10.py
import torch
from lookalikes.latent import WganGpD, WganGpG
from torch import autograd, optim

netG = WganGpG()
netD = WganGpD()
optimizerD = optim.Adam(netD.parameters(), lr=1e-4, betas=(0.5, 0.9))
optimizerG = optim.Adam(netG.parameters(), lr=1e-4, betas=(0.5, 0.9))
for _ in range(3):
    for p in netD.parameters():
        p.requires_grad = True
    netD.zero_grad()
    real = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        noisev = torch.randn(4, 8)
    fake = netG(noisev).data
    mixed = (real + torch.rand(4, 1, 1, 1) * (fake - real)).requires_grad_()
    gradient = autograd.grad(netD(mixed).sum(), mixed, create_graph=True)[0]
    (netD(fake).mean() - netD(real).mean() + 10 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()).backward()
    optimizerD.step()
    for p in netD.parameters():
        p.requires_grad = False
    netG.zero_grad()
    (-netD(netG(torch.randn(4, 8))).mean()).backward()
    optimizerG.step()
