# torchgan's Trainer, with its real networks and losses
import torch
from families import module
from torch.optim import Adam

losses, models = module("torchgan.losses"), module("torchgan.models")
small = {"step_channels": 4}
network_params = {
    "generator": {"name": models.DCGANGenerator, "args": {"encoding_dims": 8, "out_size": 32, **small}},
    "discriminator": {"name": models.DCGANDiscriminator, "args": {"in_size": 32, **small}},
}


class Trainer:
    """What torchgan.trainer.Trainer does with its networks (its loggers want an older torchvision)."""

    def __init__(self, params, losses_list):
        for key, made in params.items():
            setattr(self, key, made["name"](**made["args"]))
            setattr(self, f"optimizer_{key}", Adam(getattr(self, key).parameters(), 2e-4, (0.5, 0.999)))
        self.losses = losses_list

    def __call__(self, data_loader):
        for images in data_loader:
            self.losses[1].train_ops(
                self.generator, self.discriminator, self.optimizer_discriminator, images, torch.device("cpu"), 4
            )
            self.losses[0].train_ops(
                self.generator, self.discriminator, self.optimizer_generator, torch.device("cpu"), 4
            )


data_loader = [torch.rand(4, 3, 32, 32) for _ in range(3)]
trainer = Trainer(network_params, [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()])
trainer(data_loader)
