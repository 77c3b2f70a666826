"""ESRGAN, Real-ESRGAN and BSRGAN: super-resolution, as in BasicSR, xinntao's repositories and spandrel.

Example:
    >>> import spandrel                                                          # doctest: +SKIP
    >>> model = spandrel.ModelLoader().load_from_file("4x_any_esrgan.pth")       # doctest: +SKIP
    >>> loop = fbwrap.attach(model, D)            # a descriptor or its network  # doctest: +SKIP

The three generations of key names are known, x1, x2 and x4 (pixel-unshuffle before x1 and x2), and any number of
blocks. Links and modules as in AFL (§4.4): after four blocks spread over the trunk (5, 11, 17 and 22 of 23), dual
modules of three convolutions without normalisation. D may be built for another image size: it is stopped early.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

_MODULE = {"kind": "dual", "convs": 3, "norm": "none"}
_SIDE = 16  # of the low-resolution example; a multiple of any pixel-unshuffle


def _low_resolution(first: str) -> Callable[[Network], Tensor]:
    """An image with as many channels as the first convolution takes, less those of a pixel-unshuffle."""

    def example(net: Network) -> Tensor:
        inside = net.shape(first)[1]
        factor = {12: 2, 48: 4}.get(inside, 1)
        return net.picture(1, inside // factor**2, _SIDE * factor, _SIDE * factor, low=0.0)

    return example


def _activations(net: Network) -> Sequence[str]:
    return net.spread([name for name in net.find("body.*") if "Conv2d" not in net.kinds(name)])


def _rrdb(name: str, block: str, first: str, layers: dict[str, str], traits: str) -> GeneratorFamily:
    def blocks(net: Network) -> Sequence[str]:
        return [f"{block}.{i}" for i in net.indices(block, having="RDB1") or net.indices(block, having="rdb1")]

    return GeneratorFamily(
        name,
        layers={first: "Conv2d", **layers},
        example=_low_resolution(first),
        targets=lambda net: net.spread(blocks(net)),
        placements={"every block": blocks, "last block": lambda net: blocks(net)[-1:]},
        module=_MODULE,
        value_range=(0.0, 1.0),
        traits=traits,
    )


ADAPTER = Adapter(
    name="esrgan",
    citation="Wang et al., ESRGAN, ECCV Workshops 2018; Wang et al., Real-ESRGAN, ICCV Workshops 2021",
    holders={"RealESRGANer": "model"},
    generators=(
        _rrdb(
            "RRDBNet",
            "body",
            "conv_first",
            {"body.*.rdb1.conv1": "Conv2d", "conv_body": "Conv2d", "conv_last": "Conv2d"},
            "long skip, shared in-place activation",
        ),
        _rrdb(
            "RRDBNet (RRDB_trunk)",
            "RRDB_trunk",
            "conv_first",
            {"RRDB_trunk.*.RDB1.conv1": "Conv2d", "trunk_conv": "Conv2d", "conv_last": "Conv2d"},
            "long skip, shared in-place activation",
        ),
        _rrdb(
            "RRDBNet (model.N, spandrel)",
            "model.1.sub",
            "model.0",
            {"model.1.sub.*.RDB1.conv1.0": "Conv2d"},
            "nested Sequential",
        ),
        GeneratorFamily(
            "SRVGGNetCompact",
            layers={"body.0": "Conv2d", "body.2": "Conv2d", "upsampler": "PixelShuffle"},
            types=r"^Conv2d (?:PReLU|ReLU|LeakyReLU) (?:Conv2d (?:PReLU|ReLU|LeakyReLU)? ?)+PixelShuffle$",
            example=_low_resolution("body.0"),
            targets=_activations,
            module=_MODULE,
            value_range=(0.0, 1.0),
            traits="one resolution, base added in place",
        ),
        GeneratorFamily(
            "MSRResNet, EDSR",
            layers={"conv_first": "Conv2d", "body.*.conv1": "Conv2d", "body.*.conv2": "Conv2d", "conv_last": "Conv2d"},
            example=_low_resolution("conv_first"),
            targets=lambda net: net.spread("body.*"),
            module=_MODULE,
            value_range=(0.0, 1.0),
            traits="base added in place",
        ),
    ),
    critics=(
        CriticFamily(
            "VGGStyleDiscriminator",
            layers={"conv0_0": "Conv2d", "bn0_1": "", "conv4_1": "Conv2d", "linear1": "Linear", "lrelu": "LeakyReLU"},
            sources=("lrelu#1", "lrelu#3", "lrelu#5", "lrelu#7", "lrelu#9"),
            size="input_size",
            traits="fixed head size, one activation for all layers",
        ),
        CriticFamily(
            "UNetDiscriminatorSN",
            layers={"conv0": "Conv2d", "conv4": "Conv2d", "conv9": "Conv2d"},
            shapes={"conv0": (None, None, 3, 3), "conv1": (None, None, 4, 4), "conv9": (1, None, 3, 3)},
            sources=("conv?",),
            traits="functional in-place activations, spectral norm",
        ),
        CriticFamily(
            "Discriminator_VGG_128 (features.N)",
            layers={"features.0": "Conv2d", "features.3": "BatchNorm2d", "classifier.0": "Linear"},
            sources=("features.*",),
            traits="fixed head size",
        ),
    ),
)
