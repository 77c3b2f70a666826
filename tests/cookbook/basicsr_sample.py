# in the shape of basicsr/inference/inference_esrgan.py
import torch
from families import module

RRDBNet = module("basicsr.archs.rrdbnet_arch").RRDBNet
VGGStyleDiscriminator = module("basicsr.archs.discriminator_arch").VGGStyleDiscriminator
model = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=2, num_grow_ch=4)
model.load_state_dict(torch.load("net_g_3.pth")["params"], strict=True)
model.eval()
img = torch.rand(1, 3, 20, 14)
with torch.no_grad():
    output = model(img)
result = output
