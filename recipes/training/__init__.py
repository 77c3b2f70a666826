"""The adversarial training loop that every recipe shares: steps, losses, options, checkpoints, averages, processes."""
