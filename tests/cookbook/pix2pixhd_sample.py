import types

import torch
from lookalikes.translate import GlobalGenerator, MultiscaleDiscriminator

networks = types.SimpleNamespace(define_D=lambda *options: MultiscaleDiscriminator())
model = types.SimpleNamespace(netG=GlobalGenerator())
model.netG.load_state_dict(torch.load("net_G.pth"))
with torch.no_grad():
    generated = model.netG.forward(torch.rand(1, 5, 64, 64))
result = generated
