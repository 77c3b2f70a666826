"""Networks of recent repositories that no adapter knows: R3GAN, SAGAN, SPADE, StarGAN v2, FastGAN."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


# -- R3GAN: residual blocks of grouped convolutions, no norms -------------------------------------------
class R3Convolution(nn.Module):
    def __init__(self, *shape, **options):
        super().__init__()
        self.Layer = nn.Conv2d(*shape, **options)

    def forward(self, x):
        return self.Layer(x)


class R3Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.LinearLayer1, self.LinearLayer2 = (
            R3Convolution(width, 2 * width, 1),
            R3Convolution(2 * width, 2 * width, 3, 1, 1, groups=4),
        )
        self.LinearLayer3 = R3Convolution(2 * width, width, 1, bias=False)

    def forward(self, x):
        y = self.LinearLayer2(F.leaky_relu(self.LinearLayer1(x), 0.2))
        return x + self.LinearLayer3(F.leaky_relu(y, 0.2))


class R3Stage(nn.Module):
    def __init__(self, inside, outside, scale):
        super().__init__()
        self.scale, self.width = scale, R3Convolution(inside, outside, 1, bias=False)
        self.Layers = nn.ModuleList([R3Block(outside), R3Block(outside)])

    def forward(self, x):
        if self.scale == "up":
            x = F.interpolate(self.width(x), scale_factor=2, mode="bilinear", align_corners=False)
        elif self.scale == "down":
            x = self.width(F.avg_pool2d(x, 2))
        for layer in self.Layers:
            x = layer(x)
        return x


class R3GanG(nn.Module):
    def __init__(self):
        super().__init__()
        self.basis, self.linear = nn.Parameter(torch.randn(8, 4, 4)), nn.Linear(16, 8)
        self.MainLayers = nn.ModuleList([R3Stage(8, 8, "none"), R3Stage(8, 8, "up"), R3Stage(8, 4, "up")])
        self.AggregationLayer = R3Convolution(4, 3, 1)

    def forward(self, x):
        x = self.basis * self.linear(x)[..., None, None]
        for layer in self.MainLayers:
            x = layer(x)
        return self.AggregationLayer(x)


class R3GanD(nn.Module):
    def __init__(self):
        super().__init__()
        self.ExtractionLayer = R3Convolution(3, 4, 1)
        self.MainLayers = nn.ModuleList([R3Stage(4, 4, "none"), R3Stage(4, 8, "down"), R3Stage(8, 8, "down")])
        self.basis, self.linear = nn.Conv2d(8, 8, 4, groups=8), nn.Linear(8, 1)

    def forward(self, x):
        x = self.ExtractionLayer(x)
        for layer in self.MainLayers:
            x = layer(x)
        return self.linear(self.basis(x).flatten(1)).view(len(x))


# -- SAGAN: attention, and its maps beside the sample ---------------------------------------------------
class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(width, 2, 1), nn.Conv2d(width, 2, 1)
        self.value_conv, self.gamma = nn.Conv2d(width, width, 1), nn.Parameter(torch.full((1,), 0.3))

    def forward(self, x):
        q, k, v = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        attention = torch.softmax(torch.bmm(q.transpose(1, 2), k), -1)
        return self.gamma * torch.bmm(v, attention.transpose(1, 2)).view_as(x) + x, attention


class SaganG(nn.Module):
    def __init__(self):
        super().__init__()
        up = lambda a, b, k, s, p: nn.Sequential(
            spectral_norm(nn.ConvTranspose2d(a, b, k, s, p)), nn.BatchNorm2d(b), nn.ReLU()
        )
        self.l1, self.l2, self.attn1 = up(16, 12, 4, 1, 0), up(12, 8, 4, 2, 1), Attention(8)
        self.last = nn.Sequential(nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        out, p1 = self.attn1(self.l2(self.l1(z.view(len(z), -1, 1, 1))))
        return self.last(out), p1


class SaganD(nn.Module):
    def __init__(self):
        super().__init__()
        down = lambda a, b: nn.Sequential(spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.1))
        self.l1, self.l2, self.attn1, self.last = down(3, 8), down(8, 12), Attention(12), nn.Conv2d(12, 1, 4)

    def forward(self, x):
        out, p1 = self.attn1(self.l2(self.l1(x)))
        return self.last(out).squeeze(), p1


# -- SPADE: the segmentation modulates every norm -------------------------------------------------------
class Spade(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.param_free_norm, self.mlp_shared = nn.BatchNorm2d(width, affine=False), nn.Conv2d(5, 8, 3, 1, 1)
        self.mlp_gamma, self.mlp_beta = nn.Conv2d(8, width, 3, 1, 1), nn.Conv2d(8, width, 3, 1, 1)

    def forward(self, x, segmap):
        hidden = self.mlp_shared(F.interpolate(segmap, size=x.shape[2:], mode="nearest")).relu()
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm_0, self.conv_0 = Spade(width), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x, seg):
        return x + self.conv_0(F.leaky_relu(self.norm_0(x, seg), 0.2))


class SpadeG(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head_0, self.up_0, self.up_1 = (
            nn.Conv2d(5, 8, 3, 1, 1),
            SpadeBlock(8),
            SpadeBlock(8),
            SpadeBlock(8),
        )
        self.up, self.conv_img = nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, input):
        x = self.head_0(self.fc(F.interpolate(input, scale_factor=0.25)), input)
        x = self.up_1(self.up(self.up_0(self.up(x), input)), input)
        return self.conv_img(F.leaky_relu(x, 0.2)).tanh()


class SpadeD(nn.Module):
    """Of the picture and the segmentation, joined; all stages are returned."""

    def __init__(self):
        super().__init__()
        self.model0 = nn.Sequential(nn.Conv2d(8, 6, 4, 2, 2), nn.LeakyReLU(0.2))
        self.model1 = nn.Sequential(nn.Conv2d(6, 8, 4, 2, 2), nn.InstanceNorm2d(8), nn.LeakyReLU(0.2))
        self.model2 = nn.Sequential(nn.Conv2d(8, 1, 4, 1, 2))

    def forward(self, x):
        stages = [x]
        for layer in (self.model0, self.model1, self.model2):
            stages.append(layer(stages[-1]))
        return stages[1:]


# -- StarGAN v2: a picture and a style; D has an answer for each domain ---------------------------------
class Styled(nn.Module):
    def __init__(self, inside, outside, up):
        super().__init__()
        self.up, self.fc, self.conv1 = up, nn.Linear(4, 2 * inside), nn.Conv2d(inside, outside, 3, 1, 1)

    def forward(self, x, s):
        gamma, beta = self.fc(s)[..., None, None].chunk(2, 1)
        x = F.leaky_relu((1 + gamma) * F.instance_norm(x) + beta, 0.2)
        return self.conv1(F.interpolate(x, scale_factor=2) if self.up else x)


class StarG(nn.Module):
    def __init__(self):
        super().__init__()
        self.from_rgb = nn.Conv2d(3, 6, 3, 1, 1)
        self.encode = nn.ModuleList([nn.Conv2d(6, 8, 4, 2, 1), nn.Conv2d(8, 8, 4, 2, 1)])
        self.decode = nn.ModuleList([Styled(8, 8, False), Styled(8, 8, True), Styled(8, 6, True)])
        self.to_rgb = nn.Conv2d(6, 3, 1)

    def forward(self, x, s):
        x = self.from_rgb(x)
        for block in self.encode:
            x = F.leaky_relu(block(x), 0.2)
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)


class StarD(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, 6, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 8, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(8, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 2, 4),
        )  # fmt: skip

    def forward(self, x, y):
        out = self.main(x).flatten(1)
        return out[torch.arange(len(y)), y]


# -- FastGAN: skip-layer excitation; two sizes; D is told what it sees ----------------------------------
def glu_up(inside, outside):
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inside, 2 * outside, 3, 1, 1, bias=False),
                         nn.BatchNorm2d(2 * outside), nn.GLU(1))  # fmt: skip


class FastG(nn.Module):
    def __init__(self, labels=False):
        super().__init__()
        self.labels = labels  # Projected GAN's takes an empty label, too
        self.init = nn.Sequential(nn.ConvTranspose2d(16, 16, 4, bias=False), nn.BatchNorm2d(16), nn.GLU(1))
        self.feat_8, self.feat_16, self.feat_32 = glu_up(8, 8), glu_up(8, 8), glu_up(8, 6)
        excite = (nn.Conv2d(8, 6, 2), nn.SiLU(), nn.Conv2d(6, 6, 1), nn.Sigmoid())
        self.se_32 = nn.Sequential(nn.AdaptiveAvgPool2d(2), *excite)
        self.to_big, self.to_16 = nn.Conv2d(6, 3, 3, 1, 1), nn.Conv2d(8, 3, 1)

    def forward(self, input, c=None):
        if self.labels and c is None:
            raise TypeError("missing c")
        low = self.feat_8(self.init(input[..., None, None]))
        middle = self.feat_16(low)
        return [self.to_big(self.feat_32(middle) * self.se_32(low)).tanh(), self.to_16(middle).tanh()]


class FastD(nn.Module):
    def __init__(self):
        super().__init__()
        down = lambda a, b: nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.LeakyReLU(0.2))
        self.down_from_big, self.down_4, self.down_8 = down(3, 6), down(6, 8), down(8, 8)
        self.rf_big = nn.Conv2d(8, 1, 4)

    def forward(self, imgs, label):
        if label not in ("real", "fake"):
            raise ValueError(label)
        return self.rf_big(self.down_8(self.down_4(self.down_from_big(imgs[0])))).flatten()
