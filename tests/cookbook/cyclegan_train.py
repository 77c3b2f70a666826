# in the shape of models/cycle_gan_model.py: two generators, one optimizer
import itertools

import torch
from lookalikes.translate import NLayerDiscriminator, ResnetGenerator


class CycleGANModel:
    """What models/cycle_gan_model.py does, for one direction's feedback."""

    def __init__(self):
        self.netG_A, self.netG_B = ResnetGenerator(blocks=6), ResnetGenerator(blocks=6)
        self.netD_A = NLayerDiscriminator()
        both = itertools.chain(self.netG_A.parameters(), self.netG_B.parameters())
        self.optimizer_G = torch.optim.Adam(both, lr=2e-4, betas=(0.5, 0.999))
        self.optimizer_D = torch.optim.Adam(self.netD_A.parameters(), lr=2e-4)

    def optimize_parameters(self):
        fake_B = self.netG_A(self.real_A)
        rec_A = self.netG_B(fake_B)
        self.optimizer_G.zero_grad()
        ((self.netD_A(fake_B) - 1).square().mean() + 10 * (rec_A - self.real_A).abs().mean()).backward()
        self.optimizer_G.step()
        self.optimizer_D.zero_grad()
        fake, real = self.netD_A(fake_B.detach()), self.netD_A(self.real_B)
        (fake.square().mean() + (real - 1).square().mean()).backward()
        self.optimizer_D.step()


model = CycleGANModel()
for i in range(2):
    model.real_A, model.real_B = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    model.optimize_parameters()
