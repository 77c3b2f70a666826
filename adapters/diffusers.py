"""diffusers' autoencoders as generators: the decoders of AutoencoderKL, VQModel and AsymmetricAutoencoderKL.

Example:
    >>> loop = fbwrap.attach(pipe.vae, D)                        # doctest: +SKIP
    >>> with loop.installed():                                   # doctest: +SKIP
    ...     image = pipe(prompt).images[0]                       # pipe.vae.decode runs the loop

G is the method ``decode``: it takes latents and returns a ``DecoderOutput``. D is a patch discriminator, as in VQGAN
and latent diffusion (CompVis' ``NLayerDiscriminator`` is known). Slicing and tiling must be off.
"""

from collections.abc import Sequence

from torch import Tensor

from fbwrap.adapter import Adapter, GeneratorFamily, Network


def latents(net: Network) -> Tensor:
    """Latents of 8x8 (x8), with as many channels as the first layer of the decoder takes."""
    first = ("post_quant_conv", "post_quant_conv.conv", "decoder.conv_in", "conv_in")
    inside = next(shape for name in first if name in net.layers and (shape := net.shape(name)))
    return net.noise(1, inside[1], *(8 for _ in inside[2:]))


def _resolutions(net: Network) -> Sequence[str]:
    """The mid block and the up blocks, but for those at full resolution."""
    sizes, part = net.sizes(), "decoder." if "decoder.mid_block" in net.layers else ""
    blocks = [f"{part}mid_block", *net.find(f"{part}up_blocks.*")]
    return [name for name in blocks if name in sizes and sizes[name] != net.output_sides()]


def _blocks(part: str) -> dict[str, str]:
    names = ("conv_in", "mid_block.resnets.0.conv1", "up_blocks.0.resnets.0.conv1", "conv_out")
    return {part + name: "Conv2d" for name in names}


ADAPTER = Adapter(
    name="diffusers",
    citation="von Platen et al., diffusers; Rombach et al., Latent Diffusion, CVPR 2022",
    generators=(
        GeneratorFamily(
            "AutoencoderKL, VQModel",
            layers=_blocks("decoder."),
            method="decode",
            example=latents,
            targets=_resolutions,
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "Decoder",
            layers=_blocks(""),
            lacks=("time_embedding",),
            example=latents,
            targets=_resolutions,
            value_range=(-1.0, 1.0),
        ),
    ),
)
