# in the shape of junyanz/pytorch-CycleGAN-and-pix2pix train.py and models/pix2pix_model.py
import torch
from lookalikes.translate import NLayerDiscriminator, UnetGenerator


class Pix2PixModel:
    """What models/pix2pix_model.py does."""

    def __init__(self):
        self.netG, self.netD = UnetGenerator(), NLayerDiscriminator(inside=6)
        self.criterionGAN = torch.nn.BCEWithLogitsLoss()
        self.optimizer_G = torch.optim.Adam(self.netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def optimize_parameters(self):
        self.fake_B = self.netG(self.real_A)
        self.netD.requires_grad_(True)
        self.optimizer_D.zero_grad()
        fake = self.netD(torch.cat((self.real_A, self.fake_B), 1).detach())
        real = self.netD(torch.cat((self.real_A, self.real_B), 1))
        (self.criterionGAN(fake, fake * 0) + self.criterionGAN(real, real * 0 + 1)).backward()
        self.optimizer_D.step()
        self.netD.requires_grad_(False)
        self.optimizer_G.zero_grad()
        fooled = self.netD(torch.cat((self.real_A, self.fake_B), 1))
        (self.criterionGAN(fooled, fooled * 0 + 1) + 100 * (self.fake_B - self.real_B).abs().mean()).backward()
        self.optimizer_G.step()

    def save_networks(self, epoch):
        torch.save(self.netG.state_dict(), f"{epoch}_net_G.pth")


model = Pix2PixModel()
for i in range(3):
    model.real_A, model.real_B = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    model.optimize_parameters()
model.save_networks("latest")
