# diffusers' autoencoder, latents and images of the user's
import torch
from families import module, patch, vae

module("diffusers")
vae, discriminator = vae().eval(), patch(name="main", layers=2)
images, latents = torch.rand(8, 3, 32, 32), torch.randn(8, 4, 8, 8)
vae.save_pretrained("vae")
