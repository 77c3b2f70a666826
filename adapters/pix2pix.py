"""pix2pix's U-Net and the patch discriminators of junyanz/pytorch-CycleGAN-and-pix2pix.

Examples:
    >>> loop = fbwrap.attach(model.netG, model.netD)            # doctest: +SKIP

AFL's dual modules stand in the decoder. Whether D sees the condition is told by its number of input channels.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network


def _unet_image(net: Network) -> Tensor:
    downs = sum(kind == "Conv2d" for kind in net.types.split())
    return net.picture(1, net.shape("model.model.0")[1], 2**downs, 2**downs)


def _decoder(net: Network) -> Sequence[str]:
    """The decoder's norms at a half, a quarter and an eighth of the image."""
    return [f"model.model.1{'.model.3' * depth}.model.6" for depth in (2, 1, 0)]


def joined(condition_first: bool) -> Callable[[Network, Network], str]:
    """Whether D takes the condition too: told by its number of input channels."""

    def preset(generator: Network, critic: Network) -> str:
        outside = next(iter(generator.ran().outputs.values())).shape[1]
        if critic.shape(critic.leaf(r"Conv\dd"))[1] == outside:
            return "output"
        return "condition_and_output" if condition_first else "output_and_condition"

    return preset


def _loss(critic: Network) -> str | None:
    """pix2pix's D has batch norm and BCE, CycleGAN's instance norm and least squares: the repository's defaults."""
    norm = critic.kinds("model.3")[0] if "model.3" in critic.layers else ""
    return {"BatchNorm2d": "bce", "InstanceNorm2d": "least_squares"}.get(norm)


ADAPTER = Adapter(
    name="pix2pix",
    citation="Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017",
    generators=(
        GeneratorFamily(
            "UnetGenerator",
            layers={
                "model.model.0": "Conv2d",
                "model.model.1.model.3.model.1": "Conv2d",
                "model.model.3": "ConvTranspose2d",
            },
            shapes={"model.model.0": (None, None, 4, 4)},
            example=_unet_image,
            targets=_decoder,
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "NLayerDiscriminator",
            layers={"model.0": "Conv2d", "model.2": "Conv2d", "model.5": "Conv2d"},
            shapes={"model.0": (None, None, 4, 4)},
            types=r"^Conv2d LeakyReLU Conv2d .*Conv2d$",
            lacks=("model.0.*",),
            critic_input=joined(condition_first=True),
            loss=_loss,
        ),
        CriticFamily(
            "NLayerDiscriminator, antialiased (CUT)",
            layers={"model.0": "Conv2d", "model.2": "Downsample", "model.3": "Conv2d"},
            shapes={"model.0": (None, None, 4, 4)},
            critic_input=joined(condition_first=True),
            loss="least_squares",
        ),
        CriticFamily(
            "PixelDiscriminator",
            layers={"net.2": "Conv2d"},
            shapes={"net.0": (None, None, 1, 1), "net.5": (1, None, 1, 1)},
            critic_input=joined(condition_first=True),
        ),
    ),
)
