# in the shape of xinntao/Real-ESRGAN inference_realesrgan.py
import torch
from cookbook.heads import head_for
from families import basicsr


class RealESRGANer:
    """What realesrgan.utils.RealESRGANer does with its network."""

    def __init__(self, model):
        self.model = model.eval()

    def enhance(self, image):
        with torch.no_grad():
            return self.model(image).clamp(0, 1)


def UNetDiscriminatorSN(num_in_ch, num_feat):
    torch.manual_seed(1)
    return basicsr("unet")


torch.manual_seed(0)
model = basicsr("rrdb")
head_for(model, UNetDiscriminatorSN(3, 4))
upsampler = RealESRGANer(model=model)
output = upsampler.enhance(torch.rand(1, 3, 16, 16))
result = output
