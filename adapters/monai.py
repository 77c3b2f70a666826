"""MONAI: autoencoders as generators and patch discriminators, in 2-D and 3-D.

Examples:
    >>> D = monai.networks.nets.PatchDiscriminator(3, 32, 1)                        # doctest: +SKIP
    >>> loop = fbwrap.attach(autoencoder, D)            # G is autoencoder.decode   # doctest: +SKIP

The discriminators return a list of all their features, the response last.
"""

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily

from .diffusers import latents
from .pix2pix import joined

_PATCH = {"initial_conv.conv": "Conv[123]d", "0.conv": "Conv[123]d", "final_conv.conv": "Conv[123]d"}

ADAPTER = Adapter(
    name="monai",
    citation="Cardoso et al., MONAI, arXiv 2211.02701",
    generators=(
        GeneratorFamily(
            "AutoencoderKL",
            layers={"decoder.blocks.0.conv": "Conv[123]d", "post_quant_conv.conv": "Conv[123]d"},
            method="decode",
            example=latents,
        ),
    ),
    critics=(
        CriticFamily(
            "PatchDiscriminator",
            layers=_PATCH,
            sources=("initial_conv", "?"),
            critic_input=joined(condition_first=False),
            response="[-1]",
            loss="least_squares",
        ),
        CriticFamily(
            "MultiScalePatchDiscriminator",
            layers={f"discriminator_0.{name}": kind for name, kind in _PATCH.items()},
            sources=("discriminator_?.initial_conv", "discriminator_?.?"),
            critic_input=joined(condition_first=False),
            response="[0][0]",
            loss="least_squares",
        ),
    ),
)
