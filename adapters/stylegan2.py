"""StyleGAN2: rosinality's generator (a list of latents in, a tuple out) and NVIDIA's ADA (mapping and synthesis); and
StyleGAN3, StyleGAN-XL.

Examples:
    >>> loop = fbwrap.attach(generator, discriminator)          # doctest: +SKIP
    >>> image, _ = loop([z])                                    # doctest: +SKIP

Noise is drawn at test time: every step of a call sees the same. D's minibatch standard deviation makes a sample
depend on its batch, behind the layers that are linked.
"""

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network


def _list_of_latents(net: Network) -> object:
    return ([net.noise(1, net.shape("style.1")[1])],)


def _latent_and_label(net: Network) -> object:
    """z, and c or None: the mapping's first layer takes both."""
    both, label = net.shape("mapping.fc0")[1], net.shape("mapping.embed") if "mapping.embed" in net.layers else None
    if label is None:
        return net.noise(1, both), None
    return net.noise(1, both - label[0]), net.noise(1, label[1])


ADAPTER = Adapter(
    name="stylegan2",
    citation="Karras et al., StyleGAN2, CVPR 2020; Karras et al., StyleGAN2-ADA, NeurIPS 2020; Karras et al., "
    "StyleGAN3, NeurIPS 2021",
    generators=(
        GeneratorFamily(
            "StyleGAN2 (rosinality)",
            layers={"style.1": "", "conv1.conv": "", "convs.0.conv": "", "to_rgb1.conv": "", "input": ""},
            example=_list_of_latents,
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "StyleGAN2-ADA",
            layers={"mapping.fc0": "", "synthesis.b4.conv1": "", "synthesis.b8.conv0": ""},
            example=_latent_and_label,
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "StyleGAN3, StyleGAN-XL",
            layers={"mapping.fc0": "", "synthesis.input.affine": "", "synthesis.L0_*.affine": ""},
            example=_latent_and_label,
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "StyleGAN2 (rosinality)",
            layers={"convs.0": "", "convs.1.conv1": "", "final_conv": "", "final_linear.0": ""},
            sources=("convs.*",),
            loss="bce",
        ),
        CriticFamily(
            "StyleGAN2-ADA",
            layers={"b8.conv0": "", "b4.conv": "", "b4.fc": "", "b4.out": ""},
            critic_input="output_and_label",
            loss="bce",
        ),
    ),
)
