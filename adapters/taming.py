"""VQGAN and latent diffusion, as in CompVis' repositories: a decoder, and the patch discriminator within its loss.

Examples:
    >>> loop = fbwrap.attach(model.decoder, model.loss.discriminator)                 # doctest: +SKIP
"""

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily

from .diffusers import latents
from .pix2pix import joined

ADAPTER = Adapter(
    name="taming",
    citation="Esser, Rombach, Ommer, Taming Transformers for High-Resolution Image Synthesis, CVPR 2021",
    generators=(
        GeneratorFamily(
            "Decoder",
            layers={"conv_in": "Conv2d", "mid.block_1.conv1": "Conv2d", "up.0.block.0.conv1": "Conv2d"},
            lacks=("down",),
            example=latents,
            targets=lambda net: ["mid.block_2", *reversed(net.find("up.*.upsample"))][:-1] or ["mid.block_2"],
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "NLayerDiscriminator",
            layers={"main.0": "Conv2d", "main.2": "Conv2d", "main.5": "Conv2d"},
            shapes={"main.0": (None, None, 4, 4)},
            types=r"^Conv2d LeakyReLU Conv2d .*Conv2d$",
            critic_input=joined(condition_first=False),
            loss="hinge",
        ),
    ),
)
