"""Super-resolution with other key names than BasicSR's: xinntao/ESRGAN's, and those of 2018 and spandrel."""

import torch
import torch.nn.functional as F
from torch import nn


class OldDense(nn.Module):
    def __init__(self, width, grow):
        super().__init__()
        for i in range(4):
            setattr(self, f"conv{i + 1}", nn.Conv2d(width + i * grow, grow, 3, 1, 1))
        self.conv5 = nn.Conv2d(width + 4 * grow, width, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x):
        seen = [x]
        for i in range(4):
            seen.append(self.lrelu(getattr(self, f"conv{i + 1}")(torch.cat(seen, 1))))
        return self.conv5(torch.cat(seen, 1)) * 0.2 + x


class OldBlock(nn.Module):
    def __init__(self, width, grow):
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (OldDense(width, grow) for _ in range(3))

    def forward(self, x):
        return self.RDB3(self.RDB2(self.RDB1(x))) * 0.2 + x


class OldRRDBNet(nn.Module):
    """xinntao/ESRGAN: RRDB_trunk, trunk_conv, upconv1, HRconv."""

    def __init__(self, width=8, blocks=5, grow=4):
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, 1, 1)
        self.RRDB_trunk = nn.Sequential(*(OldBlock(width, grow) for _ in range(blocks)))
        self.trunk_conv, self.upconv1, self.upconv2 = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(3))
        self.HRconv, self.conv_last = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, 3, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x):
        h = self.conv_first(x)
        h = h + self.trunk_conv(self.RRDB_trunk(h))
        h = self.lrelu(self.upconv1(F.interpolate(h, scale_factor=2)))
        h = self.lrelu(self.upconv2(F.interpolate(h, scale_factor=2)))
        return self.conv_last(self.lrelu(self.HRconv(h)))


class Shortcut(nn.Module):
    def __init__(self, sub):
        super().__init__()
        self.sub = sub

    def forward(self, x):
        return x + self.sub(x)


class FlatDense(nn.Module):
    def __init__(self, width, grow):
        super().__init__()
        for i in range(5):
            conv = nn.Conv2d(width + i * grow, grow if i < 4 else width, 3, 1, 1)
            setattr(self, f"conv{i + 1}", nn.Sequential(conv, *([nn.LeakyReLU(0.2, True)] * (i < 4))))

    def forward(self, x):
        seen = [x]
        for i in range(5):
            seen.append(getattr(self, f"conv{i + 1}")(torch.cat(seen, 1)))
        return seen[-1] * 0.2 + x


class FlatBlock(OldBlock):
    def __init__(self, width, grow):
        nn.Module.__init__(self)
        self.RDB1, self.RDB2, self.RDB3 = (FlatDense(width, grow) for _ in range(3))


class FlatRRDBNet(nn.Module):
    """BasicSR of 2018, victorca25 and spandrel: model.N with a ShortcutBlock around the trunk."""

    def __init__(self, width=8, blocks=5, grow=4):
        super().__init__()

        def up():
            return nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2, True)

        trunk = nn.Sequential(*(FlatBlock(width, grow) for _ in range(blocks)), nn.Conv2d(width, width, 3, 1, 1))
        last = [nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(width, 3, 3, 1, 1)]
        self.model = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), Shortcut(trunk), *up(), *up(), *last)

    def forward(self, x):
        return self.model(x)


class FlatVgg(nn.Module):
    """Its discriminator: features.N and a classifier for one image size."""

    def __init__(self, width=4, size=128):
        super().__init__()
        layers, inside = [nn.Conv2d(3, width, 3, 1, 1), nn.LeakyReLU(0.2, True)], width
        for place in range(7):
            outside = inside * 2 if place % 2 and place < 6 else inside
            kernel, stride = (3, 1) if place % 2 else (4, 2)
            layers += [nn.Conv2d(inside, outside, kernel, stride, 1), nn.BatchNorm2d(outside), nn.LeakyReLU(0.2, True)]
            inside = outside
        self.features = nn.Sequential(*layers)
        flat = inside * (size // 16) ** 2
        self.classifier = nn.Sequential(nn.Linear(flat, 10), nn.LeakyReLU(0.2, True), nn.Linear(10, 1))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))
