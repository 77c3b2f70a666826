# in the shape of NVIDIA/pix2pixHD train.py and models/pix2pixHD_model.py
import types

import torch
from lookalikes.translate import GlobalGenerator, MultiscaleDiscriminator

inner = types.SimpleNamespace(netG=GlobalGenerator(), netD=MultiscaleDiscriminator())
inner.optimizer_G = torch.optim.Adam(inner.netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
inner.optimizer_D = torch.optim.Adam(inner.netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
model = types.SimpleNamespace(module=inner)


def gan(answers, target):
    return sum((scale[-1] - target).square().mean() for scale in answers)


optimizer_G, optimizer_D = model.module.optimizer_G, model.module.optimizer_D
for _ in range(2):
    input_label, real_image = torch.rand(1, 5, 64, 64), torch.rand(1, 3, 64, 64)
    fake_image = inner.netG.forward(input_label)
    optimizer_G.zero_grad()
    loss_G = gan(inner.netD.forward(torch.cat((input_label, fake_image), dim=1)), 1)
    loss_G.backward()
    optimizer_G.step()
    optimizer_D.zero_grad()
    loss_D = gan(inner.netD.forward(torch.cat((input_label, fake_image.detach()), dim=1)), 0)
    (loss_D + gan(inner.netD.forward(torch.cat((input_label, real_image), dim=1)), 1)).backward()
    optimizer_D.step()
torch.save(inner.netG.state_dict(), "net_G.pth")
