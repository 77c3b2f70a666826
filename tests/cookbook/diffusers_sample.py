import torch
from families import module, patch
from test_packages import dit

AutoencoderKL = module("diffusers").AutoencoderKL
discriminator = patch(name="main", layers=2).eval()
torch.manual_seed(0)
pipe = dit(AutoencoderKL.from_pretrained("vae"))
pipe.set_progress_bar_config(disable=True)
image = pipe(class_labels=[1], generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np")
result = torch.tensor(image.images)
