"""More networks that no adapter knows: SRGAN, projected D's, GigaGAN's upsampler, one-step diffusion."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


# -- SRGAN: sub-pixel convolutions with one PReLU each, a D that pools --------------------------------------
class SRResidual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.PReLU()
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class SRUpsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.pixel_shuffle, self.prelu = nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()

    def forward(self, x):
        return self.prelu(self.pixel_shuffle(self.conv(x)))


class SrganG(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.block2, self.block3, self.block4 = SRResidual(width), SRResidual(width), SRResidual(width)
        self.block5 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.block6 = nn.Sequential(SRUpsample(width), SRUpsample(width), nn.Conv2d(width, 3, 9, padding=4))

    def forward(self, x):
        first = self.block1(x)
        last = self.block5(self.block4(self.block3(self.block2(first))))
        return (torch.tanh(self.block6(first + last)) + 1) / 2


class SrganD(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        layers, before = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)], width
        for after, stride in ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2)):
            layers += [nn.Conv2d(before, after * width, 3, stride, 1), nn.BatchNorm2d(after * width), nn.LeakyReLU(0.2)]
            before = after * width
        self.net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(before, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 1)
        )

    def forward(self, x):
        return torch.sigmoid(self.net(x).view(x.size(0)))


# -- Projected GAN: small discriminators on the mixed features of a frozen network, random augmentation -----
class Backbone(nn.Module):
    """Stands for the pretrained network: four stages."""

    def __init__(self, widths=(4, 6, 8, 12)):
        super().__init__()
        before = 3
        for i, width in enumerate(widths):
            stage = nn.Sequential(nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
            setattr(self, f"layer{i}", stage)
            before = width


class FeatureFusion(nn.Module):
    def __init__(self, width, wide):
        super().__init__()
        self.skip_add, self.out_conv = nn.quantized.FloatFunctional(), nn.Conv2d(width, wide, 1)

    def forward(self, *xs):
        output = xs[0] if len(xs) == 1 else self.skip_add.add(*xs)
        return self.out_conv(F.interpolate(output, scale_factor=2, mode="bilinear", align_corners=True))


class RandomProjection(nn.Module):
    def __init__(self, widths=(4, 6, 8, 12), wide=8):
        super().__init__()
        self.pretrained, self.scratch = Backbone(widths), nn.Module()
        for i, width in enumerate(widths):
            setattr(self.scratch, f"layer{i}_ccm", nn.Conv2d(width, wide, 1))
            setattr(self.scratch, f"layer{i}_csm", FeatureFusion(wide, wide))

    def forward(self, x):
        mixed, fused = [], None
        for i in range(4):
            x = getattr(self.pretrained, f"layer{i}")(x)
            mixed.append(getattr(self.scratch, f"layer{i}_ccm")(x))
        found = {}
        for i in (3, 2, 1, 0):
            given = (mixed[i],) if fused is None else (fused, mixed[i])
            found[str(i)] = fused = getattr(self.scratch, f"layer{i}_csm")(*given)
        return {key: found[key] for key in "0123"}


class SingleDisc(nn.Module):
    def __init__(self, width, halvings):
        super().__init__()
        down = [
            nn.Sequential(nn.Conv2d(width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True))
            for _ in range(halvings)
        ]
        self.main = nn.Sequential(*down, nn.Conv2d(width, 1, 4, 1, 0, bias=False))

    def forward(self, x, c):
        return self.main(x)


class MultiScaleD(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.mini_discs = nn.ModuleDict({str(i): SingleDisc(width, 2 - i) for i in range(3)})

    def forward(self, features, c):
        answers = [disc(features[key], c).view(len(features[key]), -1) for key, disc in self.mini_discs.items()]
        return torch.cat(answers, 1)


class ProjectedDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.feature_network, self.discriminator = RandomProjection(), MultiScaleD()

    def train(self, mode=True):
        self.feature_network.train(False)
        self.discriminator.train(mode)
        return self

    def forward(self, x, c):
        x = x + (torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device) - 0.5)  # its augmentation, in every mode
        return self.discriminator(self.feature_network(F.interpolate(x, 32, mode="bilinear", align_corners=False)), c)


# -- GigaGAN's upsampler: a U-Net with a style; D doubles its batch at each size that it is given ------------
class StyledBlock(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv, self.act, self.res_conv = (
            nn.Conv2d(inside, outside, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(inside, outside, 1),
        )

    def forward(self, x, conv_mods_iter=None):
        modulation = next(conv_mods_iter)[..., None, None] + 1
        return self.act(self.conv(x * modulation)) + self.res_conv(x)


class UnetUpsampler(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.style_network, self.init_conv = (
            nn.Sequential(nn.Linear(10, 10), nn.LeakyReLU(0.1)),
            nn.Conv2d(3, dim, 7, 1, 3),
        )
        self.downs = nn.ModuleList(
            [nn.ModuleList([StyledBlock(dim, dim), nn.Conv2d(dim, dim, 3, stride, 1)]) for stride in (1, 2)]
        )
        self.mid_block1 = StyledBlock(dim, dim)
        self.ups = nn.ModuleList([
            nn.ModuleList([
                nn.Sequential(nn.Conv2d(dim, 4 * dim, 1), nn.SiLU(), nn.PixelShuffle(2)), nn.Conv2d(dim, 3, 1),
                StyledBlock(2 * dim, dim),
            ]) for _ in range(2)
        ])  # fmt: skip
        self.final_res_block, self.final_to_rgb = StyledBlock(dim, dim), nn.Conv2d(dim, 3, 1)
        self._sizes = (dim, dim, dim, 2 * dim, 2 * dim, dim)
        self.style_to_conv_modulations = nn.Linear(10, sum(self._sizes))

    def forward(self, lowres_image_or_video, styles=None, noise=None, texts=None, return_all_rgbs=False):
        x, size = lowres_image_or_video, lowres_image_or_video.shape[-1]
        if styles is None:
            styles = self.style_network(torch.randn(len(x), 10) if noise is None else noise)
        mods, held, rgb, rgbs = iter(self.style_to_conv_modulations(styles).split(self._sizes, -1)), [], x, [x]
        x = self.init_conv(x)
        for block, downsample in self.downs:
            x = block(x, conv_mods_iter=mods)
            held.append(x)
            x = downsample(x)
        x = self.mid_block1(x, conv_mods_iter=mods)
        for upsample, to_rgb, block in self.ups:
            x = upsample(x)
            skip = F.interpolate(held.pop(), x.shape[2:], mode="bilinear")
            x = block(torch.cat((x, skip), 1), conv_mods_iter=mods)
            rgb = F.interpolate(rgb, x.shape[2:], mode="bilinear") + to_rgb(x)
            rgbs.append(rgb)
        rgb = rgb + self.final_to_rgb(self.final_res_block(x, conv_mods_iter=mods))
        return (rgb, [each for each in rgbs if each.shape[-1] >= size]) if return_all_rgbs else rgb


class GigaganD(nn.Module):
    multiscale_input_resolutions = (8,)

    def __init__(self, dim=4):
        super().__init__()
        widths = [3, dim, 2 * dim, 2 * dim]
        self.layers = nn.ModuleList([
            nn.ModuleList([
                nn.Conv2d(3, inside, 7, padding=3),
                nn.Sequential(
                    nn.Conv2d(inside, outside, 3, padding=1), nn.LeakyReLU(0.1),
                    nn.Conv2d(outside, outside, 3, padding=1), nn.LeakyReLU(0.1),
                ),
                nn.Conv2d(inside, outside, 1, 2), nn.Conv2d(outside, outside, 4, 2, 1),
            ])
            for inside, outside in pairwise(widths)
        ])  # fmt: skip
        self.to_logits = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.Flatten(), nn.Linear(4 * 8, 1)
        )

    def forward(self, images, rgbs, texts=None, real_images=None, return_multiscale_outputs=True, calc_aux_loss=True):
        sizes, x = {each.shape[-1]: each for each in rgbs}, images
        for from_rgb, block, residual, downsample in self.layers:
            if x.shape[-1] in self.multiscale_input_resolutions:
                seen = from_rgb(sizes[x.shape[-1]])
                seen = seen.repeat(len(x) // len(seen), 1, 1, 1)
                x = torch.cat((x + seen, seen))
            x = (downsample(block(x)) + residual(x)) * 2**-0.5
        return self.to_logits(x).view(-1, len(images)), [], []


# -- a diffusion network that makes its sample in one step, and a critic on a copy's features (DMD2) ---------
class OneStep(nn.Module):
    """What DMD2 trains: noise and a text's embedding to a sample, at the last time step."""

    def __init__(self):
        super().__init__()
        self.unet = unet()

    def forward(self, noise, text_embedding):
        steps = torch.full((len(noise),), 399, dtype=torch.long, device=noise.device)
        eps = self.unet(noise, steps, encoder_hidden_states=text_embedding).sample
        return (noise - 0.9 * eps) / 0.44


class CriticOfFeatures(nn.Module):
    """The inner features of another diffusion network, and a head that tells real from made."""

    def __init__(self):
        super().__init__()
        self.fake_unet = unet()
        self.cls_pred_branch = nn.Sequential(
            nn.Conv2d(16, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 1, 4, 4, 0)
        )

    def forward(self, sample, text_embedding):
        kept = []
        hook = self.fake_unet.mid_block.register_forward_hook(lambda module, given, made: kept.append(made))
        try:
            steps = torch.zeros(len(sample), dtype=torch.long, device=sample.device)
            self.fake_unet(sample, steps, encoder_hidden_states=text_embedding)
        finally:
            hook.remove()
        return self.cls_pred_branch(kept[0])


def unet():
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4,
    )  # fmt: skip
