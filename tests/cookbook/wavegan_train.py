# in the shape of mazzzystar/WaveGAN-pytorch train.py
import torch
from lookalikes.audio import WaveD, WaveG
from torch import optim

netG = WaveG()
netD = WaveD()
optimizerG = optim.Adam(netG.parameters(), lr=1e-4, betas=(0.5, 0.9))
optimizerD = optim.Adam(netD.parameters(), lr=1e-4, betas=(0.5, 0.9))
for _ in range(2):
    netD.zero_grad()
    noise = torch.Tensor(2, 12).uniform_(-1, 1)
    fake = netG(noise).data
    (netD(fake).mean() - netD(torch.rand(2, 1, 4096)).mean()).backward()
    optimizerD.step()
    netG.zero_grad()
    G = -netD(netG(torch.Tensor(2, 12).uniform_(-1, 1))).mean()
    G.backward()
    optimizerG.step()
