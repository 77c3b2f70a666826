"""Real-ESRGAN's compact generators and its U-Net discriminator, and BasicSR's residual ones.

Examples:
    >>> loop = fbwrap.attach(RealESRGANer(scale=4, model_path=path, model=net), D)    # doctest: +SKIP
    >>> loop = fbwrap.attach(net, D)                                                  # doctest: +SKIP
"""

from collections.abc import Sequence

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

from .esrgan import MODULE, low_resolution

_ACT = "(?:PReLU|ReLU|LeakyReLU)"


def _activations(net: Network) -> Sequence[str]:
    return net.spread([name for name in net.find("body.*") if "Conv2d" not in net.kinds(name)])


ADAPTER = Adapter(
    name="realesrgan",
    citation="Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution, ICCV Workshops 2021",
    holders={"RealESRGANer": "model"},
    generators=(
        GeneratorFamily(
            "SRVGGNetCompact",
            layers={"body.0": "Conv2d", "body.2": "Conv2d", "upsampler": "PixelShuffle"},
            types=rf"^Conv2d {_ACT} (?:Conv2d {_ACT}? ?)+PixelShuffle$",
            example=low_resolution("body.0"),
            targets=_activations,
            module=MODULE,
            value_range=(0.0, 1.0),
        ),
        GeneratorFamily(
            "MSRResNet, EDSR",
            layers={"conv_first": "Conv2d", "body.*.conv1": "Conv2d", "body.*.conv2": "Conv2d", "conv_last": "Conv2d"},
            example=low_resolution("conv_first"),
            targets=lambda net: net.spread("body.*"),
            module=MODULE,
            value_range=(0.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "UNetDiscriminatorSN",
            layers={"conv0": "Conv2d", "conv4": "Conv2d", "conv9": "Conv2d"},
            shapes={"conv0": (None, None, 3, 3), "conv1": (None, None, 4, 4), "conv9": (1, None, 3, 3)},
            sources=("conv?",),
            loss="bce",
        ),
    ),
)
