"""DCGAN, SN-GAN and WGAN-GP: a latent vector to an image of 28 to 128 pixels.

Examples:
    >>> from torch import nn
    >>> G = nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 1, 0), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh())
    >>> import fbwrap
    >>> str(fbwrap.explain(G).generator)
    'dcgan: transposed convolutions'

Recognised by the order of layer types, since every repository has its own names. Links as in AFL (§4.2, §4.3):
at 8x8 for images of 32x32, at each of 4x4 to 32x32 for 64x64.
"""

from collections.abc import Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

_NORM = r"(?: (?:BatchNorm2d|InstanceNorm2d|LayerNorm))?"
_ACT = r"(?: (?:ReLU|LeakyReLU))?"
_CONVS = rf"(?: (?:ConvTranspose2d|Conv2d){_NORM}{_ACT})"
_GROW = "Upsample|UpsamplingNearest2d|PixelShuffle|DepthToSpace"
_MIXED = rf"(?: (?:Conv2d|ConvTranspose2d|BatchNorm2d|ReLU|LeakyReLU|{_GROW}))"
_REST = "AvgPool2d|ZeroPad2d|Dropout2d|Flatten|Linear|Sigmoid|Sequential"
_SEEN = rf"(?: (?:Conv2d|BatchNorm2d|InstanceNorm2d|LayerNorm|ReLU|LeakyReLU|{_REST}))"


def _latent_map(net: Network) -> Tensor:
    return net.noise(1, net.shape(net.leaves[0])[0], 1, 1)


def _latent(net: Network) -> Tensor:
    return net.noise(1, net.shape(net.leaves[0])[1])


def _links(net: Network) -> Sequence[str]:
    """8x8 of a 32x32 image, each resolution of a 64x64 one."""
    return net.stages(8) if net.output_sides()[:1] == (32,) else net.stages(4, 8, 16, 32)


ADAPTER = Adapter(
    name="dcgan",
    citation="Radford, Metz, Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016",
    generators=(
        GeneratorFamily(
            "transposed convolutions",
            types=rf"^ConvTranspose2d{_NORM}{_ACT}{_CONVS}+ (?:Tanh|Sigmoid)$",
            example=_latent_map,
            targets=_links,
            placements={"every resolution": lambda net: net.stages()},
        ),
        GeneratorFamily(
            "linear, then convolutions",
            types=rf"^Linear(?: BatchNorm1d)?{_ACT}{_MIXED}*(?: Conv2d| ConvTranspose2d){_MIXED}*(?: Tanh| Sigmoid)?$",
            example=_latent,
            targets=_links,
            placements={"every resolution": lambda net: net.stages()},
        ),
        GeneratorFamily(
            "linear layers",
            types=r"^Linear(?: (?:Linear|BatchNorm1d|ReLU|LeakyReLU|Dropout))* Linear (?:Tanh|Sigmoid)$",
            example=_latent,
        ),
    ),
    critics=(
        CriticFamily("strided convolutions", types=rf"^Conv2d{_SEEN}+$"),
        CriticFamily("linear layers", types=r"^Linear(?: (?:Linear|ReLU|LeakyReLU|Dropout))* Linear(?: Sigmoid)?$"),
    ),
)
