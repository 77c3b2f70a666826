# in the shape of test.py; define_D as in models/networks.py
import types

import torch
from lookalikes.translate import NLayerDiscriminator, UnetGenerator

networks = types.SimpleNamespace(define_D=lambda input_nc, ndf, netD: NLayerDiscriminator(inside=input_nc))
model = types.SimpleNamespace(netG=UnetGenerator())
model.netG.load_state_dict(torch.load("latest_net_G.pth"))
model.netG.eval()
with torch.no_grad():
    fake_B = model.netG(torch.rand(1, 3, 32, 32))
result = fake_B
