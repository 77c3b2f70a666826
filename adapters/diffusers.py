"""diffusers' autoencoders as generators: the decoders of AutoencoderKL, VQModel and AsymmetricAutoencoderKL.

Examples:
    >>> loop = fbwrap.attach(pipe.vae, D)                        # doctest: +SKIP
    >>> with loop.installed():                                   # doctest: +SKIP
    ...     image = pipe(prompt).images[0]                       # pipe.vae.decode runs the loop

    >>> loop = fbwrap.attach("diffusers:them/vae", D)            # doctest: +SKIP

G is the method ``decode``: it takes latents and returns a ``DecoderOutput``. D is a patch discriminator, as in VQGAN
and latent diffusion (CompVis' ``NLayerDiscriminator`` is known). Slicing and tiling must be off. By name,
``"diffusers:FOLDER"`` here or ``"diffusers:user/name"`` on the Hub (a subfolder after it: ``/vae``), one of these
classes is read, from safetensors.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from fbwrap.adapter import Adapter, GeneratorFamily, Network
from fbwrap.errors import SettingError, WeightsError

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
CLASSES = ("AutoencoderKL", "VQModel", "AsymmetricAutoencoderKL")


def latents(net: Network) -> Tensor:
    """Latents of 8x8 (x8), with as many channels as the first layer of the decoder takes."""
    first = ("post_quant_conv", "post_quant_conv.conv", "decoder.conv_in", "conv_in")
    inside = next(shape for name in first if name in net.layers and (shape := net.shape(name)))
    return net.noise(1, inside[1], *(8 for _ in inside[2:]))


def load(path: str) -> nn.Module:
    """The autoencoder in a folder, in eval mode; its config chooses among CLASSES, and nothing else."""
    try:
        import diffusers
    except ImportError as error:
        raise SettingError(f"'diffusers:{path}' needs diffusers: pip install diffusers ({error}).") from error
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} holds no {CONFIG} that names a class of diffusers: {error}.") from error
    if name not in CLASSES or "quantization_config" in config:
        raise WeightsError(
            f"{path} holds {str(name)[:60]!r}: by name, only {', '.join(CLASSES)} are read, unquantized."
        )
    try:
        model, found = getattr(diffusers, name).from_pretrained(
            path, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # a config, perhaps a stranger's, can fail in any way
        raise WeightsError(f"The {name} in {path} cannot be read: {type(error).__name__}: {error}") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        wrong = [*found["missing_keys"], *found["mismatched_keys"]]
        raise WeightsError(f"The weights in {path} are not those of its {name}: {wrong[0]} is missing or does not fit.")
    network: nn.Module = model
    return network.eval()


def files(inside: str) -> tuple[str, ...]:
    """What a folder of diffusers holds."""
    return tuple(f"{inside}/{name}" if inside else name for name in (CONFIG, WEIGHTS))


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
    load=load,
    files=files,
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
