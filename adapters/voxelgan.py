"""3D-GAN and VoxelGAN: a latent vector to a cube of voxels.

Examples:
    >>> loop = fbwrap.attach(G, D)            # G: (N, 200) -> (N, 1, 64, 64, 64)    # doctest: +SKIP

FAL's AST (§5.1) at a quarter of the side: 16x16x16 of 64, 8x8x8 of 32. Networks that squeeze the channel axis away
are understood: D's features and the voxels are paired as cubes.
"""

from collections.abc import Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network

_AFTER = r"(?: BatchNorm3d)?(?: (?:ReLU|LeakyReLU|ELU))?"
_BLOCK = rf"(?: (?:ConvTranspose3d|Conv3d){_AFTER})"
_SEEN = "Conv3d|BatchNorm3d|InstanceNorm3d|LeakyReLU|ReLU|Dropout3d|Flatten|Linear|Sigmoid"


def _latent(net: Network) -> Tensor:
    """Two samples: some repositories squeeze every axis of length one, the batch's too."""
    inner = net.shape(net.leaves[0])[0 if "ConvTranspose3d" in net.kinds(net.leaves[0]) else 1]
    shape = (2, inner) if _takes_vectors(net) else (2, inner, 1, 1, 1)
    return net.noise(*shape) * 0.33


def _takes_vectors(net: Network) -> bool:
    return "ConvTranspose3d" not in net.kinds(net.leaves[0])


def _quarter(net: Network) -> Sequence[str]:
    return net.stages(net.output_sides()[-1] // 4)


ADAPTER = Adapter(
    name="voxelgan",
    citation="Wu et al., Learning a Probabilistic Latent Space of Object Shapes via 3D GANs, NeurIPS 2016",
    generators=(
        GeneratorFamily(
            "transposed 3-D convolutions",
            types=rf"^(?:Linear )?ConvTranspose3d{_AFTER}{_BLOCK}+(?: Sigmoid| Tanh)?$",
            example=_latent,
            targets=_quarter,
            placements={"every resolution": lambda net: net.stages()},
            module="ast",
            steps=3,
        ),
    ),
    critics=(
        CriticFamily(
            "3-D convolutions",
            types=rf"^Conv3d(?: (?:{_SEEN}))+$",
        ),
    ),
)
