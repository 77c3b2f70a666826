# in the shape of pytorch/examples dcgan/main.py
import torch
from lookalikes.latent import DcganD, dcgan_g
from torch import nn, optim

nz, batch_size, lr, beta1 = 8, 4, 2e-4, 0.5
netG = dcgan_g()
netD = DcganD()
criterion = nn.BCELoss()
optimizerD = optim.Adam(netD.parameters(), lr=lr, betas=(beta1, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=lr, betas=(beta1, 0.999))
for i in range(3):
    netD.zero_grad()
    real = torch.rand(batch_size, 3, 64, 64) * 2 - 1
    label = torch.ones(batch_size)
    criterion(netD(real), label).backward()
    noise = torch.randn(batch_size, nz, 1, 1)
    fake = netG(noise)
    criterion(netD(fake.detach()), label * 0).backward()
    optimizerD.step()
    netG.zero_grad()
    errG = criterion(netD(fake), label)
    errG.backward()
    optimizerG.step()
torch.save(netG.state_dict(), "netG.pth")
torch.save(netD.state_dict(), "netD.pth")
