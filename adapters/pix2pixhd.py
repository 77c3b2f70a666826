"""pix2pixHD: label maps to large images, with discriminators at several scales.

Examples:
    >>> loop = fbwrap.attach(model.netG, model.netD)            # doctest: +SKIP

FAL's AST stands where the encoder ends. D answers with a list of lists; its response is the full scale's last map.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

from .pix2pix import joined


def _labels(first: str, side: int) -> Callable[[Network], Tensor]:
    def example(net: Network) -> Tensor:
        return net.picture(1, net.shape(first)[1], side, side)

    return example


def _encoder_end(net: Network) -> Sequence[str]:
    """The norm behind the last convolution of the encoder: the activation behind it is one object for all."""
    return [f"model.{min(net.indices('model', having='conv_block')) - 2}"]


_HD = {"model.13": "Conv2d", "model.16.conv_block.1": "Conv2d"}
_HD_OF_3 = {"model.10": "Conv2d", "model.13.conv_block.1": "Conv2d"}  # its constructor's own number; the script takes 4


def _global(name: str, layers: dict[str, str], block: str) -> GeneratorFamily:
    """Its global generator: layers that tell it, and the fourth residual block."""
    return GeneratorFamily(
        name,
        layers=layers,
        shapes={"model.1": (None, None, 7, 7)},
        lacks=("model1_1",),
        example=_labels("model.1", 64),
        targets=_encoder_end,
        placements={"after block 4": (block,)},
        module="ast",
        steps=3,
        value_range=(-1.0, 1.0),
    )


ADAPTER = Adapter(
    name="pix2pixhd",
    citation="Wang et al., High-Resolution Image Synthesis with Conditional GANs, CVPR 2018",
    generators=(
        _global("GlobalGenerator", _HD, "model.19"),
        _global("GlobalGenerator, three downsamplings", _HD_OF_3, "model.16"),
        GeneratorFamily(
            "LocalEnhancer",
            layers={**_HD, "model1_1.1": "Conv2d", "model1_2.0.conv_block.1": "Conv2d"},
            example=_labels("model1_1.1", 64),
            targets=("model1_2.0",),
            placements={"global": ("model.19",)},
            module="ast",
            steps=3,
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "MultiscaleDiscriminator with features",
            layers={"scale0_layer0": "Sequential", "scale0_layer0.0": "Conv2d", "scale0_layer3": "Sequential"},
            sources=("scale?_layer?",),
            critic_input=joined(condition_first=True),
            response="[0][-1]",
            loss="least_squares",
        ),
        CriticFamily(
            "MultiscaleDiscriminator",
            layers={"layer0.0": "Conv2d", "layer0.2": "Conv2d", "layer1.0": "Conv2d", "downsample": "AvgPool2d"},
            sources=("layer?.*",),
            critic_input=joined(condition_first=True),
            response="[0][-1]",
            loss="least_squares",
        ),
    ),
)
