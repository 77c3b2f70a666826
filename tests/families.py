"""Every pair of the support matrix: who makes it, and what the adapters should say about it.

The real packages where these are on PyPI, look-alikes (``tests/lookalikes``) of repositories that are not.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lookalikes import audio, latent, recent, style3, superres, today, translate, voxel
from torch import nn


@dataclass
class Entry:
    """One pair: how it is made, what it is recognised as, and for the table where the networks come from."""

    make: Callable[[], tuple[Any, Any]]
    generator: str | None
    critic: str | None
    source: str = ""
    package: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    std: float = 0.3  # of the head's random weights in the tests
    links: list[str] | None = None

    def build(self):
        """G (or what holds it), its network, D and the options of attach."""
        if self.package and importlib.util.find_spec(self.package) is None:
            pytest.skip(f"{self.package} is not installed: pip install '.[integration]'")
        torch.manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            held, critic = self.make()
        net = held if isinstance(held, nn.Module) else held.model
        for part in (net, critic):
            for module in part.modules() if isinstance(part, nn.Module) else ():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 1.5)
                    if module.affine:
                        nn.init.uniform_(module.weight, 0.5, 1.5)
        net.eval()
        return held, net, critic.eval() if isinstance(critic, nn.Module) else critic


def module(name):
    return importlib.import_module(name)


def basicsr(kind, **options):
    if kind == "vgg":
        return module("basicsr.archs.discriminator_arch").VGGStyleDiscriminator(3, 4, 128)
    if kind == "unet":
        return module("basicsr.archs.discriminator_arch").UNetDiscriminatorSN(3, 4)
    if kind == "rrdb":
        return module("basicsr.archs.rrdbnet_arch").RRDBNet(3, 3, num_feat=8, num_block=5, num_grow_ch=4, **options)
    if kind == "srvgg":
        return module("basicsr.archs.srvgg_arch").SRVGGNetCompact(3, 3, num_feat=8, num_conv=6, upscale=4, **options)
    return module("basicsr.archs.srresnet_arch").MSRResNet(3, 3, num_feat=8, num_block=6)


def spandrel(state):
    return module("spandrel").ModelLoader().load_from_state_dict(state)


def rrdb_for_spandrel():
    return module("basicsr.archs.rrdbnet_arch").RRDBNet(3, 3, num_feat=8, num_block=2, num_grow_ch=32).state_dict()


def torchgan():
    models = module("torchgan.models")
    options = {"step_channels": 4}
    return models.DCGANGenerator(encoding_dims=8, out_size=64, **options), models.DCGANDiscriminator(64, **options)


def vae(kind="AutoencoderKL"):
    options = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {f"{way}_block_types": (f"{name}EncoderBlock2D" if way == "down" else f"{name}DecoderBlock2D",) * 3
              for way, name in (("down", "Down"), ("up", "Up"))}  # fmt: skip
    if kind == "AsymmetricAutoencoderKL":
        widths, _ = options.pop("block_out_channels"), options.pop("layers_per_block")
        options |= {"down_block_out_channels": widths, "up_block_out_channels": widths}
    return getattr(module("diffusers"), kind)(**options, **blocks)


def monai_vae(dims):
    nets = module("monai.networks.nets")
    return nets.AutoencoderKL(
        spatial_dims=dims, in_channels=1, out_channels=1, channels=(8, 8, 8), num_res_blocks=1,
        attention_levels=(False,) * 3, latent_channels=3, norm_num_groups=4,
        with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
    )  # fmt: skip


def monai_patch(dims, scales=1):
    nets = module("monai.networks.nets")
    if scales > 1:
        return nets.MultiScalePatchDiscriminator(
            num_d=scales, num_layers_d=1, spatial_dims=dims, channels=4, in_channels=1, minimum_size_im=32
        )
    return nets.PatchDiscriminator(spatial_dims=dims, channels=4, in_channels=1, num_layers_d=2)


def monai_generator(dims):
    nets = module("monai.networks.nets")
    return nets.Generator((8,), (8, *(4,) * dims), (8, 4, 1), (2, 2, 2), num_res_units=1)


def pretrained_biggan():
    lib = module("pytorch_pretrained_biggan")
    config = lib.BigGANConfig(
        output_dim=32, z_dim=8, class_embed_dim=8, channel_width=4, num_classes=5,
        layers=[(True, 16, 8), (True, 8, 4), (False, 4, 2), (True, 2, 1)], attention_layer_position=3, n_stats=51,
    )  # fmt: skip
    net = lib.BigGAN(config)
    with torch.no_grad():
        net.generator.bn.weight.fill_(1.0)  # the package leaves them as the memory had them
        net.generator.bn.bias.fill_(0.1)
        for _ in range(6):  # spectral norm: its vectors mean something only after some passes in train mode
            net.train()(torch.randn(4, 8), torch.eye(5)[:4], 0.4)
    return net


def lightweight():
    real = torch.cuda.is_available
    torch.cuda.is_available = lambda: True  # it asserts a GPU at import, and needs none
    try:
        lib = module("lightweight_gan.lightweight_gan")
    finally:
        torch.cuda.is_available = real
    options = {"image_size": 32, "fmap_max": 8, "attn_res_layers": []}
    return lib.Generator(latent_dim=8, **options), lib.Discriminator(disc_output_size=1, **options)


def ctgan():
    nets = module("ctgan.synthesizers.ctgan")
    return nets.Generator(6, (16, 16), 7), nets.Discriminator(7, (16, 16), pac=3)


def patch(**options):
    return translate.NLayerDiscriminator(**options)


DC, LIN = "dcgan: transposed convolutions", "dcgan: linear, then convolutions"
SC = "dcgan: strided convolutions"
UNET, VGG = "realesrgan: UNetDiscriminatorSN", "esrgan: VGGStyleDiscriminator"
N_LAYER, TAMING = "pix2pix: NLayerDiscriminator", "taming: NLayerDiscriminator"
TIMM = "timm: frozen backbone with heads"

FAMILIES: dict[str, Entry] = {
    # -- DCGAN, SN-GAN, WGAN-GP
    "pytorch/examples dcgan": Entry(
        lambda: (latent.dcgan_g(), latent.DcganD()), DC, SC,
        links=["main.2 <- dual <- main.10", "main.5 <- dual <- main.7", "main.8 <- dual <- main.4",
               "main.11 <- dual <- main.1"],
    ),
    "dcgan at 32x32": Entry(
        lambda: (latent.dcgan_g(size=32), latent.DcganD(size=32)), DC, SC, links=["main.5 <- dual <- main.4"]
    ),
    "AFL CelebA": Entry(
        lambda: (latent.AflG(), latent.AflD()), DC, SC,
        links=["layer0 <- dual <- l4", "layer1 <- dual <- l3", "layer2 <- dual <- l2", "layer3 <- dual <- l1"],
    ),
    "torchgan": Entry(torchgan, DC, SC, "PyPI torchgan", "torchgan"),
    "torchgan look-alike": Entry(lambda: (latent.TorchganG(), latent.DcganD(size=32)), DC, SC),
    "mimicry SN-GAN": Entry(
        lambda: (latent.MimicryG(), latent.MimicryD()), LIN, SC, links=["block2 <- dual <- activation"]
    ),
    "christiancosgrove SN-GAN": Entry(
        lambda: (latent.dcgan_g(size=32), latent.CosgroveD()), DC, SC, links=["main.5 <- dual <- fc:input"]
    ),
    "caogang WGAN-GP": Entry(lambda: (latent.WganGpG(), latent.WganGpD()), LIN, SC, links=["block1 <- dual <- main.3"]),
    # -- super-resolution
    "RRDBNet x4, UNetDiscriminatorSN": Entry(
        lambda: (basicsr("rrdb"), basicsr("unet")), "esrgan: RRDBNet", UNET, "PyPI basicsr", "basicsr",
        links=[f"body.{i} <- dual <- conv4" for i in (1, 3, 4)],
    ),
    "RRDBNet x2, VGGStyleDiscriminator": Entry(
        lambda: (basicsr("rrdb", scale=2), basicsr("vgg")), "esrgan: RRDBNet", VGG, "PyPI basicsr", "basicsr"
    ),
    "RRDBNet x4, no discriminator": Entry(
        lambda: (basicsr("rrdb"), None), "esrgan: RRDBNet", None, "PyPI basicsr", "basicsr"
    ),
    "SRVGGNetCompact": Entry(
        lambda: (basicsr("srvgg"), basicsr("unet")), "realesrgan: SRVGGNetCompact", UNET, "PyPI basicsr", "basicsr"
    ),
    "MSRResNet": Entry(
        lambda: (basicsr("srresnet"), basicsr("vgg")), "realesrgan: MSRResNet, EDSR", VGG, "PyPI basicsr", "basicsr"
    ),
    "spandrel descriptor, ESRGAN": Entry(
        lambda: (spandrel(rrdb_for_spandrel()), basicsr("unet")), "esrgan: RRDBNet (model.N, spandrel)", UNET,
        "PyPI spandrel", "spandrel", std=0.05,
    ),
    "spandrel descriptor, Compact": Entry(
        lambda: (spandrel(basicsr("srvgg").state_dict()), basicsr("unet")), "realesrgan: SRVGGNetCompact", UNET,
        "PyPI spandrel", "spandrel",
    ),
    "ESRGAN, old key names": Entry(
        lambda: (superres.OldRRDBNet(), superres.FlatVgg()), "esrgan: RRDBNet (RRDB_trunk)",
        "esrgan: Discriminator_VGG_128 (features.N)",
    ),
    "ESRGAN of 2018": Entry(
        lambda: (superres.FlatRRDBNet(), superres.FlatVgg()), "esrgan: RRDBNet (model.N, spandrel)",
        "esrgan: Discriminator_VGG_128 (features.N)",
    ),
    # -- image to image
    "pix2pix U-Net": Entry(
        lambda: (translate.UnetGenerator(), patch(inside=6)), "pix2pix: UnetGenerator", N_LAYER,
        links=["model.model.1.model.3.model.3.model.6 <- dual <- model.7",
               "model.model.1.model.3.model.6 <- dual <- model.4", "model.model.1.model.6 <- dual <- model.1"],
    ),
    "pix2pix U-Net, PixelDiscriminator": Entry(
        lambda: (translate.UnetGenerator(), translate.PixelDiscriminator(6)), "pix2pix: UnetGenerator",
        "pix2pix: PixelDiscriminator",
    ),
    "CycleGAN, 9 blocks": Entry(
        lambda: (translate.ResnetGenerator(), patch()), "cyclegan: ResnetGenerator", N_LAYER,
        links=["model.9 <- ast <- image + response"],
    ),
    "CycleGAN, 6 blocks, after block 4": Entry(
        lambda: (translate.ResnetGenerator(blocks=6), patch()), "cyclegan: ResnetGenerator", N_LAYER,
        options={"layers": "auto:after block 4"}, links=["model.13 <- ast <- image + response"],
    ),
    "CUT": Entry(
        lambda: (translate.CutG(), translate.CutD()), "cyclegan: ResnetGenerator, antialiased (CUT)",
        "pix2pix: NLayerDiscriminator, antialiased (CUT)", links=["model.11 <- ast <- image + response"],
    ),
    "pix2pixHD global": Entry(
        lambda: (translate.GlobalGenerator(), translate.MultiscaleDiscriminator()), "pix2pixhd: GlobalGenerator",
        "pix2pixhd: MultiscaleDiscriminator with features", links=["model.14 <- ast <- image + response"],
    ),
    "pix2pixHD global, three downsamplings": Entry(
        lambda: (translate.GlobalGenerator(downs=3), translate.MultiscaleDiscriminator()),
        "pix2pixhd: GlobalGenerator, three downsamplings", "pix2pixhd: MultiscaleDiscriminator with features",
        links=["model.11 <- ast <- image + response"],
    ),
    "pix2pixHD local": Entry(
        lambda: (translate.LocalEnhancer(), translate.MultiscaleDiscriminator(scales=3, features=False)),
        "pix2pixhd: LocalEnhancer", "pix2pixhd: MultiscaleDiscriminator",
    ),
    # -- voxels
    "VoxelGAN, response cube": Entry(
        lambda: (voxel.VoxelG(), voxel.VoxelD(response=True)), "voxelgan: transposed 3-D convolutions",
        "voxelgan: 3-D convolutions", links=["layer3 <- ast <- image + response"],
    ),
    "3D-GAN 64, channel axis squeezed": Entry(
        lambda: (voxel.VoxelG(64, squeeze=True), voxel.VoxelD(64, squeeze=True)),
        "voxelgan: transposed 3-D convolutions", "voxelgan: 3-D convolutions",
        links=["layer3 <- ast <- image + response"],
    ),
    "3D-GAN, linear first": Entry(
        lambda: (voxel.FlatVoxelG(), voxel.VoxelD()), "voxelgan: transposed 3-D convolutions",
        "voxelgan: 3-D convolutions",
    ),
    # -- autoencoders' decoders
    "diffusers AutoencoderKL": Entry(
        lambda: (vae(), patch(name="main", layers=2)), "diffusers: AutoencoderKL, VQModel", TAMING, "PyPI diffusers",
        "diffusers", links=["decoder.mid_block <- dual <- main.4", "decoder.up_blocks.0 <- dual <- main.1"],
    ),
    "diffusers VQModel": Entry(
        lambda: (vae("VQModel"), patch(name="main", layers=2)), "diffusers: AutoencoderKL, VQModel", TAMING,
        "PyPI diffusers", "diffusers",
    ),
    "diffusers AsymmetricAutoencoderKL": Entry(
        lambda: (vae("AsymmetricAutoencoderKL"), patch(name="main", layers=2)), "diffusers: AutoencoderKL, VQModel",
        TAMING, "PyPI diffusers", "diffusers",
    ),
    "diffusers decoder alone": Entry(
        lambda: (vae().decoder, patch(name="main", layers=2)), "diffusers: Decoder", TAMING, "PyPI diffusers",
        "diffusers",
    ),
    "taming / LDM decoder": Entry(
        lambda: (translate.Decoder(), patch(name="main", layers=2)), "taming: Decoder", TAMING
    ),
    "MONAI AutoencoderKL 2-D": Entry(
        lambda: (monai_vae(2), monai_patch(2)), "monai: AutoencoderKL", "monai: PatchDiscriminator", "PyPI monai",
        "monai",
    ),
    "MONAI AutoencoderKL 3-D, two scales": Entry(
        lambda: (monai_vae(3), monai_patch(3, scales=2)), "monai: AutoencoderKL",
        "monai: MultiScalePatchDiscriminator", "PyPI monai", "monai",
    ),
    "MONAI Generator 3-D": Entry(
        lambda: (monai_generator(3), monai_patch(3)), None, "monai: PatchDiscriminator", "PyPI monai", "monai",
        options={"example": (torch.zeros(2, 8),)},
    ),
    # -- timm as the critic
    "timm resnet10t": Entry(
        lambda: (latent.dcgan_g(), "timm:resnet10t(pretrained=False)"), DC, TIMM, "PyPI timm", "timm"
    ),
    "timm MambaOut (channels last)": Entry(
        lambda: (latent.dcgan_g(), "timm:test_mambaout(pretrained=False)"), DC, TIMM, "PyPI timm", "timm"
    ),
    "timm ViT (tokens)": Entry(
        lambda: (translate.ResnetGenerator(outside=1), "timm:test_vit(pretrained=False)"), "cyclegan: ResnetGenerator",
        TIMM, "PyPI timm", "timm", options={"module": "dual"},
    ),
    # -- StyleGAN2, BigGAN
    "StyleGAN2 (rosinality)": Entry(
        lambda: (latent.StyleGan2G(), latent.StyleGan2D()), "stylegan2: StyleGAN2 (rosinality)",
        "stylegan2: StyleGAN2 (rosinality)", std=0.1, links=["conv1 <- dual <- convs.2", "convs.1 <- dual <- convs.1"],
    ),
    "StyleGAN3": Entry(
        lambda: (style3.StyleGan3G(), style3.AdaD()), "stylegan2: StyleGAN3, StyleGAN-XL", "stylegan2: StyleGAN2-ADA",
        std=0.1,
    ),
    "R3GAN": Entry(
        lambda: (today.R3GanG(), today.R3GanD()), "dcgan: linear, then convolutions", "dcgan: strided convolutions",
        options={"example": torch.randn(2, 16)},
        links=["MainLayers.0 <- dual <- MainLayers.2", "MainLayers.1 <- dual <- MainLayers.1"],
    ),
    "SAGAN": Entry(
        lambda: (today.SaganG(), today.SaganD()), "dcgan: transposed convolutions", "dcgan: strided convolutions",
        options={"example": torch.randn(2, 16), "response": "[0]"},
    ),
    "SPADE": Entry(
        lambda: (today.SpadeG(), today.SpadeD()), None, "dcgan: strided convolutions",
        links=["head_0 <- dual <- model1", "up_0 <- dual <- model0"],
        options={"example": torch.rand(2, 5, 16, 16), "critic_input": "condition_and_output", "response": "[-1]"},
    ),
    "StarGAN v2": Entry(
        lambda: (today.StarG(), today.StarD()), None, "dcgan: strided convolutions",
        links=["decode.0 <- dual <- main.5", "decode.1 <- dual <- main.3"],
        options={
            "example": (torch.rand(2, 3, 16, 16), torch.randn(2, 4)),
            "critic_input": lambda y, *_: (y, torch.zeros(len(y), dtype=torch.long)),
        },
    ),
    "FastGAN": Entry(
        lambda: (today.FastG(), today.FastD()), None, "dcgan: strided convolutions",
        links=["init <- dual <- down_8", "feat_8 <- dual <- down_4", "feat_16 <- dual <- down_from_big"],
        options={"example": torch.randn(2, 16), "critic_input": lambda y, *_: (y, "fake")},
    ),
    "SRGAN": Entry(
        lambda: (recent.SrganG(), recent.SrganD()), None, None,
        links=["block5 <- dual <- net.13", "block6.0 <- dual <- net.7"], options={"example": torch.rand(2, 3, 8, 8)},
    ),
    "FastGAN, projected D": Entry(
        lambda: (today.FastG(labels=True), recent.ProjectedDiscriminator()), None, None,
        links=[
            "init <- dual <- feature_network.scratch.layer3_csm",
            "feat_8 <- dual <- feature_network.scratch.layer2_csm",
            "feat_16 <- dual <- feature_network.scratch.layer1_csm",
        ],
        options={"example": (torch.randn(2, 16), torch.zeros(2, 0)), "critic_input": "output_and_label"},
    ),
    "StyleGAN3, projected D": Entry(
        lambda: (style3.StyleGan3G(), recent.ProjectedDiscriminator()), "stylegan2: StyleGAN3, StyleGAN-XL", None,
        options={"critic_input": "output_and_label"},
    ),
    "GigaGAN's upsampler": Entry(
        lambda: (recent.UnetUpsampler(), recent.GigaganD()), None, "dcgan: strided convolutions",
        links=["mid_block1 <- dual <- layers.1.0", "ups.0.2 <- dual <- layers.1.0"],
        options={
            "example": (torch.rand(2, 3, 8, 8), None, torch.randn(2, 10), None, True), "critic_input": "all_outputs"
        },
    ),
    "one-step diffusion (DMD2)": Entry(
        lambda: (recent.OneStep(), recent.CriticOfFeatures()), None, None, "PyPI diffusers", "diffusers",
        links=["unet.mid_block <- dual <- fake_unet.mid_block"],
        options={
            "example": (torch.randn(2, 4, 16, 16), torch.randn(2, 5, 12)), "critic_input": "output_and_label"
        },
    ),
    "BigGAN (ajbrock)": Entry(
        lambda: (latent.BigGanG(), latent.BigGanD()), "biggan: BigGAN (ajbrock)", "biggan: BigGAN (ajbrock)",
        links=["blocks.0.0 <- dual <- blocks.0.0"],
    ),
    "pytorch-pretrained-biggan": Entry(
        lambda: (pretrained_biggan(), latent.BigGanD()), "biggan: pytorch-pretrained-biggan",
        "biggan: BigGAN (ajbrock)", "PyPI pytorch-pretrained-biggan", "pytorch_pretrained_biggan",
    ),
    "lightweight-gan": Entry(
        lightweight, None, None, "PyPI lightweight-gan", "lightweight_gan",
        options={"example": (torch.zeros(2, 8),), "response": "[0]"},
    ),
    # -- tables, audio
    "CTGAN": Entry(
        ctgan, "ctgan: CTGAN", "ctgan: CTGAN", "PyPI ctgan", "ctgan",
        links=["seq.0 <- dual <- seq.4", "seq.1 <- dual <- seq.4"],
    ),
    "HiFi-GAN, D(y, ŷ)": Entry(
        lambda: (audio.HifiG(), audio.MultiPeriodD()), "audio: HiFi-GAN", "audio: HiFi-GAN, several discriminators",
        std=0.1,
    ),
    "HiFi-GAN, one period": Entry(
        lambda: (audio.HifiG(), audio.PeriodD(3)), "audio: HiFi-GAN", "audio: HiFi-GAN, one discriminator", std=0.1
    ),
    "BigVGAN, one period": Entry(
        lambda: (audio.BigVganG(), audio.PeriodD(3)), "audio: BigVGAN", "audio: HiFi-GAN, one discriminator", std=0.1
    ),
    "BigVGAN, several resolutions": Entry(
        lambda: (audio.BigVganG(), audio.MultiResolutionD()), "audio: BigVGAN",
        "audio: HiFi-GAN, several discriminators", std=0.1,
    ),
    "WaveGAN": Entry(
        lambda: (audio.WaveG(), audio.WaveD()), "audio: WaveGAN", "audio: WaveGAN",
        links=["deconv_1 <- dual <- ps3", "deconv_2 <- dual <- ps2", "deconv_3 <- dual <- ps1"],
    ),
}  # fmt: skip
