"""ESRGAN's RRDBNet: super-resolution, as in BasicSR, xinntao's repositories, BSRGAN and spandrel.

Examples:
    >>> loop = fbwrap.attach("spandrel:4x_any_esrgan.pth", D)                     # doctest: +SKIP

The three generations of key names are known, x1, x2 and x4 (pixel-unshuffle before x1 and x2), and any number of
blocks. Links and modules as in AFL (§4.4): after four blocks spread over the trunk (5, 11, 17 and 22 of 23), dual
modules of three convolutions without normalisation. D may be built for another image size: it is stopped early.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

MODULE = {"kind": "dual", "convs": 3, "norm": "none"}


def low_resolution(first: str) -> Callable[[Network], Tensor]:
    """An image with as many channels as the first convolution takes, less those of a pixel-unshuffle."""

    def example(net: Network) -> Tensor:
        inside = net.shape(first)[1]
        factor = {12: 2, 48: 4}.get(inside, 1)
        return net.picture(1, inside // factor**2, 16 * factor, 16 * factor, low=0.0)

    return example


def _rrdb(name: str, parent: str, block: str, first: str, layers: tuple[str, ...]) -> GeneratorFamily:
    def blocks(net: Network) -> Sequence[str]:
        return [f"{parent}.{i}" for i in net.indices(parent, having=block)]

    return GeneratorFamily(
        name,
        layers={**dict.fromkeys((first, *layers), "Conv2d"), f"{parent}.0.{block}": ""},
        example=low_resolution(first),
        targets=lambda net: net.spread(blocks(net)),
        placements={"every block": blocks, "last block": lambda net: blocks(net)[-1:]},
        module=MODULE,
        value_range=(0.0, 1.0),
    )


ADAPTER = Adapter(
    name="esrgan",
    citation="Wang et al., ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, ECCV Workshops 2018",
    generators=(
        _rrdb("RRDBNet", "body", "rdb1", "conv_first", ("body.*.rdb1.conv1", "conv_body", "conv_last")),
        _rrdb("RRDBNet (RRDB_trunk)", "RRDB_trunk", "RDB1", "conv_first", ("RRDB_trunk.*.RDB1.conv1", "trunk_conv")),
        _rrdb("RRDBNet (model.N, spandrel)", "model.1.sub", "RDB1", "model.0", ("model.1.sub.*.RDB1.conv1.0",)),
    ),
    critics=(
        CriticFamily(
            "VGGStyleDiscriminator",
            layers={"conv0_0": "Conv2d", "bn0_1": "", "conv4_1": "Conv2d", "linear1": "Linear", "lrelu": "LeakyReLU"},
            sources=("lrelu#1", "lrelu#3", "lrelu#5", "lrelu#7", "lrelu#9"),
            loss="relativistic",
            size="input_size",
        ),
        CriticFamily(
            "Discriminator_VGG_128 (features.N)",
            layers={"features.0": "Conv2d", "features.3": "BatchNorm2d", "classifier.0": "Linear"},
            sources=("features.*",),
            loss="relativistic",
        ),
    ),
)
