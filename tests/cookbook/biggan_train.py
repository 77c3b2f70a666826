# in the shape of ajbrock/BigGAN-PyTorch train_fns.py: G and D are called within one module
import torch
from lookalikes.latent import BigGanD, BigGanG
from torch import optim

G = BigGanG()
D = BigGanD()
G.optim = optim.Adam(G.parameters(), lr=5e-5, betas=(0.0, 0.999))
D.optim = optim.Adam(D.parameters(), lr=2e-4, betas=(0.0, 0.999))
for _ in range(3):
    z_, y_ = torch.randn(4, 12), torch.randint(0, 5, (4,))
    D.optim.zero_grad()
    G_z = G(z_, G.shared(y_)).detach()
    (torch.relu(1 - D(torch.rand(4, 3, 16, 16), y_)) + torch.relu(1 + D(G_z, y_))).mean().backward()
    D.optim.step()
    G.optim.zero_grad()
    G_loss = -D(G(z_, G.shared(y_)), y_).mean()
    G_loss.backward()
    G.optim.step()
torch.save(G.state_dict(), "G.pth")
