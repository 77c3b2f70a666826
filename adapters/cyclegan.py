"""CycleGAN's residual generator, which FAL uses for image-to-image (§5.1), and CUT's, whose strides are blurs.

Examples:
    >>> loop = fbwrap.attach(model.netG_A, model.netD_A)                              # doctest: +SKIP
    >>> loop = fbwrap.attach(model.netG_A, model.netD_A, "auto:after block 4")        # doctest: +SKIP

FAL's AST stands where the encoder ends, or in the midst of the residual blocks.
"""

from torch import Tensor

from fbwrap.adapter import Adapter, GeneratorFamily, Network


def _image(net: Network) -> Tensor:
    return net.picture(1, net.shape("model.1")[1], 128, 128)


ADAPTER = Adapter(
    name="cyclegan",
    citation="Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017; "
    "Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020",
    generators=(
        GeneratorFamily(
            "ResnetGenerator",
            layers={"model.7": "Conv2d", "model.10.conv_block.1": "Conv2d", "model.15.conv_block.1": "Conv2d"},
            shapes={"model.1": (None, None, 7, 7)},
            example=_image,
            targets=("model.9",),
            placements={"after block 4": ("model.13",)},
            module="ast",
            steps=3,
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "ResnetGenerator, antialiased (CUT)",
            layers={"model.7": "Downsample", "model.11": "Downsample", "model.12.conv_block.1": "Conv2d"},
            shapes={"model.1": (None, None, 7, 7)},
            example=_image,
            targets=("model.11",),
            module="ast",
            steps=3,
            value_range=(-1.0, 1.0),
        ),
    ),
)
