"""Real packages as their users use them: pipelines, loaders, checkpoints. Each skips where its package is absent."""

import copy

import pytest
import torch
from families import FAMILIES, basicsr, patch, rrdb_for_spandrel, vae
from helpers import stir
from lookalikes import latent, translate
from safetensors.torch import load_file

import fbwrap
from fbwrap.errors import CriticError, LayerNotCalledError, SettingError, WeightsError


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


# -- diffusers ----------------------------------------------------------------------------------------
def ldm(vqvae):
    from diffusers import DDIMScheduler, UNet2DModel
    from diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond import LDMPipeline

    unet = UNet2DModel(
        block_out_channels=(8, 8), layers_per_block=1, sample_size=8, in_channels=3, out_channels=3, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return LDMPipeline(vqvae=vqvae, unet=unet, scheduler=DDIMScheduler())


def dit(vae):
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=4, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero", norm_elementwise_affine=False,
    )  # fmt: skip
    return DiTPipeline(transformer=transformer.eval(), vae=vae, scheduler=DDIMScheduler())


@pytest.mark.parametrize("which", ["LDMPipeline", "DiTPipeline"])
def test_an_unmodified_pipeline_gets_feedback(which):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    if which == "LDMPipeline":
        net = FAMILIES["diffusers VQModel"].build()[1]
        pipe, call = ldm(net), {}
    else:
        net = vae_with_four_latents()
        pipe, call = dit(net), {"class_labels": [1]}
    pipe.set_progress_bar_config(disable=True)

    def run():
        generator = torch.Generator().manual_seed(0)
        return torch.tensor(pipe(generator=generator, num_inference_steps=2, output_type="np", **call).images)

    plain = run()
    loop = fbwrap.attach(net, patch(name="main", layers=2).eval())
    with loop.installed():
        assert torch.equal(run(), plain), "a fresh head changes nothing"
        stir(loop)
        fed = run()
    assert not torch.equal(fed, plain)
    assert torch.equal(run(), plain)


def vae_with_four_latents():
    return vae().eval()


def test_slices_are_refused_for_decode_and_understood_by_the_decoder():
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net, D = vae().eval(), patch(name="main", layers=2).eval()
    latents = torch.randn(3, 4, 8, 8)
    loop = stir(fbwrap.attach(net, D))
    whole = loop(latents).sample
    net.enable_slicing()
    with pytest.raises(LayerNotCalledError, match="slices or tiles"):
        loop(latents)
    loop.detach()
    part = fbwrap.attach(net.decoder, D)
    part.feedback.load_state_dict(loop.feedback.state_dict())
    with torch.no_grad(), part.installed():
        torch.testing.assert_close(net.decode(latents).sample, whole)


# -- spandrel, Real-ESRGAN ----------------------------------------------------------------------------
def test_a_checkpoint_on_disk_is_a_generator(tmp_path):
    pytest.importorskip("spandrel")
    pytest.importorskip("basicsr")
    state = rrdb_for_spandrel()
    torch.save({"params": {k: v * 0 for k, v in state.items()}, "params_ema": state}, tmp_path / "x4.pth")
    D = basicsr("unet").eval()
    with fbwrap.attach(f"spandrel:{tmp_path / 'x4.pth'}", D) as loop:
        assert loop.facts.adapter["generator"] == "esrgan: RRDBNet (model.N, spandrel)"
        assert loop(torch.rand(1, 3, 12, 20)).shape == (1, 3, 48, 80)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="spandrel does not know the network"):
        fbwrap.attach(f"spandrel:{tmp_path / 'odd.pth'}", D)
    with pytest.raises(WeightsError, match="There is no weights file"):
        fbwrap.attach("spandrel:nowhere.pth", D)


def test_a_descriptor_runs_the_loop_when_installed():
    spandrel = pytest.importorskip("spandrel")
    pytest.importorskip("basicsr")
    model = spandrel.ModelLoader().load_from_state_dict(basicsr("srvgg").state_dict())
    loop = stir(fbwrap.attach(model, basicsr("unet").eval()), 0.1)
    x = torch.rand(1, 3, 16, 16)
    with loop.installed():
        fed = model(x)  # in inference mode, clamped
    assert torch.equal(fed.clone(), loop(x).clamp(0, 1))
    assert not torch.equal(fed.clone(), model(x).clone())


def test_tiles_of_other_sizes(tmp_path):
    """Real-ESRGAN's tile mode calls the network with tiles of several sizes."""
    pytest.importorskip("basicsr")
    torch.manual_seed(0)
    G = basicsr("rrdb").eval()
    loop = stir(fbwrap.attach(G, basicsr("vgg").eval()), 0.1)
    with torch.no_grad(), loop.installed():
        for size in ((16, 16), (16, 10), (7, 9)):
            x = torch.rand(1, 3, *size)
            assert torch.equal(G(x), loop(x))
            assert G(x).shape == (1, 3, 4 * size[0], 4 * size[1])


# -- timm ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["resnet10t", "test_convnext", "swin_s3_tiny_224", "test_vit"])
def test_the_critic_is_frozen_but_for_its_heads(timm, name):
    from fbwrap.adapters.timm_critic import TimmCritic

    critic = TimmCritic(name, pretrained=False)
    learning = {key.split(".")[0] for key, p in critic.named_parameters() if p.requires_grad}
    assert learning == {"head"}
    critic.train()
    assert not critic.backbone.training
    assert critic.head.training
    image = torch.rand(2, 1, 32, 32, requires_grad=True)
    logits = critic(image)
    assert logits.shape[:2] == (2, len(critic.head))
    logits.mean().backward()
    assert image.grad.abs().sum() > 0, "what learns against it gets a gradient"
    assert all(p.grad is None for p in critic.backbone.parameters())


def test_images_are_normalised_as_the_backbone_wants_them(timm):
    from fbwrap.adapters.timm_critic import TimmCritic

    critic = TimmCritic("resnet10t", pretrained=False, value_range=(-1, 1))
    size = critic.size
    white = critic.prepared(torch.ones(1, 3, 8, 8))
    assert white.shape == (1, 3, *size)
    config = critic.backbone.pretrained_cfg if hasattr(critic.backbone, "pretrained_cfg") else None
    mean = torch.tensor((config or {"mean": (0.485, 0.456, 0.406)})["mean"])
    std = torch.tensor((config or {"std": (0.229, 0.224, 0.225)})["std"])
    torch.testing.assert_close(white[0, :, 0, 0], (1 - mean) / std)
    exact = torch.rand(1, 3, *size)
    torch.testing.assert_close(critic.prepared(2 * exact - 1), (exact - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    with pytest.raises(CriticError, match="not at"):
        critic(torch.rand(1, 4, 8, 8))


def test_a_head_with_a_timm_critic_needs_no_d_to_load(timm, tmp_path):
    torch.manual_seed(0)
    G = latent.dcgan_g(size=32).eval()
    loop = stir(fbwrap.attach(G, "timm:resnet10t(pretrained=False)"))
    z = torch.randn(2, 8, 1, 1)
    y = loop(z)
    loop.save_pretrained(tmp_path / "head")
    shipped = load_file(tmp_path / "head" / "discriminator.safetensors")
    assert {key.split(".")[0] for key in shipped} == {"backbone"}, "random weights, and no heads that no link sees"
    again = fbwrap.from_pretrained(tmp_path / "head", copy.deepcopy(G))
    assert torch.equal(again(z), y)


def test_only_heads_learn_in_a_recipe(timm):
    torch.manual_seed(0)
    G = latent.dcgan_g(size=32).eval()
    loop = fbwrap.attach(G, "timm:resnet10t(pretrained=False, levels=[2, 3])")
    before = copy.deepcopy(loop.discriminator.state_dict())
    fbwrap.recipes.AFL(loop, batch=4, r1=0.0, loss="bce").fit(
        torch.rand(8, 3, 32, 32), lambda n: torch.randn(n, 8, 1, 1), steps=3, progress=False
    )
    changed = {k.split(".")[0] for k, v in loop.discriminator.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:nonsense_net", "timm cannot make 'nonsense_net'"),
        ("timm:resnet10t(wrong=1)", "options are pretrained=, levels= and width="),
        ("timm:resnet10t(pretrained=open)", "cannot be read"),
        ("timm:hf_hub:someone/model", "not an address"),
        ("timm:resnet10t(pretrained='http://somewhere')", "True or False"),
        ("timm:resnet10t(width=2000000000)", "width 1 to 4096"),
        ("timm:resnet10t(levels=[99])", "levels a list of numbers"),
    ],
)
def test_wrong_critic_names(timm, spec, message):
    with pytest.raises(SettingError, match=message):
        fbwrap.attach(translate.ResnetGenerator(), spec)


def test_the_critic_serves_a_g_of_another_precision(timm):
    for dtype in (torch.float64, torch.bfloat16):
        G = latent.dcgan_g(size=32).to(dtype).eval()
        loop = stir(fbwrap.attach(G, "timm:resnet10t(pretrained=False, levels=[2])"), 0.01)
        assert loop(torch.randn(2, 8, 1, 1, dtype=dtype)).dtype == dtype
