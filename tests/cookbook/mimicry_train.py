# in the shape of kwotsin/mimicry examples/sngan_example.py
import torch
from lookalikes.latent import MimicryD, MimicryG
from torch import optim


class Trainer:
    """What torch_mimicry.training.Trainer does."""

    def __init__(self, netG, netD, optG, optD):
        self.netG, self.netD, self.optG, self.optD = netG, netD, optG, optD

    def train(self):
        for _ in range(3):
            self.optD.zero_grad()
            fake = self.netG.generate_images(4).detach()
            real = torch.rand(4, 3, 32, 32)
            (torch.relu(1 - self.netD.forward(real)) + torch.relu(1 + self.netD.forward(fake))).mean().backward()
            self.optD.step()
            self.netG.zero_grad()
            (-self.netD(self.netG.generate_images(4))).mean().backward()
            self.optG.step()


netG = MimicryG()
netD = MimicryD()
optD = optim.Adam(netD.parameters(), 2e-4, betas=(0.0, 0.9))
optG = optim.Adam(netG.parameters(), 2e-4, betas=(0.0, 0.9))
trainer = Trainer(netD=netD, netG=netG, optD=optD, optG=optG)
trainer.train()
torch.save(netG.state_dict(), "netG.pth")
