"""diffusers' autoencoders as generators: the decoders of AutoencoderKL, VQModel and AsymmetricAutoencoderKL.

Example:
    >>> loop = fbwrap.attach(pipe.vae, D)                        # doctest: +SKIP
    >>> with loop.installed():                                   # doctest: +SKIP
    ...     image = pipe(prompt).images[0]                       # pipe.vae.decode runs the loop

G is the method ``decode``: it takes latents and returns a ``DecoderOutput``. D is a patch discriminator, as in VQGAN
and latent diffusion (CompVis' ``NLayerDiscriminator`` is known). Slicing and tiling must be off.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from fbwrap.adapter import Adapter, GeneratorFamily, Network
from fbwrap.errors import SettingError


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


def load(name: str) -> nn.Module:
    """An autoencoder in a folder, or in ``user/name[/SUBFOLDER]`` on the Hub: safetensors, diffusers' own classes."""
    try:
        from diffusers import AutoModel
    except ImportError as error:
        raise SettingError(f"'diffusers:{name}' needs diffusers: pip install diffusers ({error}).") from error
    repo, subfolder = (name, None) if Path(name).is_dir() else ("/".join(name.split("/")[:2]), name.split("/")[2:])
    try:
        model = AutoModel.from_pretrained(repo, subfolder="/".join(subfolder or []) or None, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(f"diffusers cannot load {name}: {str(error).splitlines()[0]}") from error
    network: nn.Module = model
    return network.eval()


def _blocks(part: str) -> dict[str, str]:
    names = ("conv_in", "mid_block.resnets.0.conv1", "up_blocks.0.resnets.0.conv1", "conv_out")
    return {part + name: "Conv2d" for name in names}


ADAPTER = Adapter(
    name="diffusers",
    load=load,
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
