# BasicSR's own model class, on CPU; basicsr/train.py calls it as below
import torch
from families import module

opt = {
    "model_type": "ESRGANModel", "num_gpu": 0, "dist": False, "is_train": True, "rank": 0, "world_size": 1,
    "path": {"models": ".", "training_states": "."},
    "network_g": {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "num_grow_ch": 4},
    "network_d": {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4},
    "train": {
        "ema_decay": 0, "optim_g": {"type": "Adam", "lr": 1e-4}, "optim_d": {"type": "Adam", "lr": 1e-4},
        "scheduler": {"type": "MultiStepLR", "milestones": [10], "gamma": 0.5},
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0,
                    "loss_weight": 0.1},
    },
}  # fmt: skip
train_loader = [{"lq": torch.rand(2, 3, 32, 32), "gt": torch.rand(2, 3, 128, 128)} for _ in range(3)]
model = module("basicsr.models").build_model(opt)
for current_iter, train_data in enumerate(train_loader):
    model.update_learning_rate(current_iter, warmup_iter=-1)
    model.feed_data(train_data)
    model.optimize_parameters(current_iter)
model.save(0, 3)
