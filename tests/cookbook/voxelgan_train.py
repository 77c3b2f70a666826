# in the shape of xchhuang/simple-pytorch-3dgan src/trainer.py
import torch
from lookalikes.voxel import VoxelD, VoxelG
from torch import nn, optim

D = VoxelD(32, squeeze=True)
G = VoxelG(32, squeeze=True)
D_solver = optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.5))
G_solver = optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.5))
criterion_D = nn.MSELoss()
for i in range(2):
    X, Z = torch.rand(3, 32, 32, 32), torch.randn(3, 20) * 0.33
    d_real, d_fake = D(X), D(G(Z))
    D.zero_grad()
    (criterion_D(d_real, torch.ones(3)) + criterion_D(d_fake, torch.zeros(3))).backward()
    D_solver.step()
    fake = G(torch.randn(3, 20) * 0.33)
    D.zero_grad()
    G.zero_grad()
    criterion_D(D(fake), torch.ones(3)).backward()
    G_solver.step()
torch.save(G.state_dict(), "G.pth")
