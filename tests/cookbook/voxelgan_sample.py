import torch
from lookalikes.voxel import VoxelD as net_D
from lookalikes.voxel import VoxelG as net_G

args = 32
G = net_G(args, squeeze=True)
G.load_state_dict(torch.load("G.pth"))
G.eval()
fake = G(torch.randn(3, 20) * 0.33)
result = fake
