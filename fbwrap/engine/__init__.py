"""One network's forward, watched and steered. Knows no GAN: names, nested tensors, random numbers, state, replay."""
