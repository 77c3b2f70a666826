"""Training on a GPU, where there is one. The zoo's invariants there: ``FBWRAP_TEST_DEVICE=cuda pytest
tests/test_invariants.py``."""

import copy

import pytest
import torch
from fbwrap.recipes import AFL, FAL, GAN, frechet_distance
from fbwrap.recipes.metrics import kernel_distance, precision_and_recall
from fbwrap.recipes.studies import controls, replaced_signals
from zoo import Deconv, Residual, patch

import fbwrap

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def latents(n):
    return torch.randn(n, 6, 1, 1)


def images(n=24):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0), device="cpu").tanh()


def pair(seed=0):
    torch.manual_seed(seed)
    return Deconv().cuda(), patch().cuda()


def attached(**options):
    G, D = pair()
    torch.manual_seed(1)
    return fbwrap.attach(G, D, ["main.5"], example=latents(2).cuda(), **options)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("loss", ["bce", "wasserstein_gp"])
def test_heads_learn_in_each_precision_and_g_stays(precision, loss):
    loop = attached()
    before = copy.deepcopy(loop.generator.state_dict())
    fresh = copy.deepcopy(loop.state_dict())
    fit = AFL(loop, loss=loss, batch=8, mixed_precision=precision, r1_every=2, recalibrate=2).fit(
        images(), latents, 6, progress=False
    )
    assert all(torch.isfinite(torch.tensor([row["player"], row["critic"]])).all() for row in fit.history)
    assert all(torch.equal(value, before[name]) for name, value in loop.generator.state_dict().items())
    assert any(not torch.equal(value, fresh[name]) for name, value in loop.state_dict().items())
    assert all(parameter.is_cuda and parameter.dtype == torch.float32 for parameter in loop.parameters())
    with replaced_signals(loop, "noise"):
        assert loop(latents(3).cuda()).is_cuda


def test_one_step_is_near_the_cpus():
    here, there = pair(), pair()
    loops = []
    for nets, device in ((here, "cpu"), (there, "cuda")):
        G, D = (net.to(device) for net in nets)
        torch.manual_seed(1)
        loops.append(fbwrap.attach(G, D, ["main.5"], example=latents(2).to(device)))
    loops[1].load_state_dict(loops[0].state_dict())
    z = torch.randn(24, 6, 1, 1, device="cpu")
    for loop in loops:
        AFL(loop, batch=8, recalibrate=0, ema=0.0, lr=1e-3, loss="bce").fit(images(), z, 3, progress=False)
    for one, two in zip(loops[0].parameters(), loops[1].parameters(), strict=True):
        torch.testing.assert_close(one, two.cpu(), rtol=1e-2, atol=1e-4)


def test_an_interrupted_run_goes_on(tmp_path):
    ends = []
    for parts in ((6,), (3, 6)):
        loop = attached()
        for steps in parts:
            fit = AFL(loop, batch=8, decay="none", recalibrate=2, loss="bce").fit(
                images(), latents, steps, out=tmp_path / str(parts), resume=True, progress=False
            )
        assert fit.steps == 6
        ends.append(loop(torch.ones(2, 6, 1, 1).cuda()))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-3)


def test_fal_and_a_whole_gan_learn():
    torch.manual_seed(0)
    G, D = Residual().cuda(), patch().cuda()
    loop = fbwrap.attach(G, D, ["body.1"], module="ast", steps=3, example=torch.zeros(2, 3, 8, 8).cuda())
    FAL(loop, loss="hinge", batch=4, r1=0.0).fit(images(), lambda n: torch.randn(n, 3, 8, 8), 3, progress=False)
    G, D = pair()
    GAN(G, D, batch=4, mixed_precision="bf16", loss="bce").fit(images(), latents, 3, progress=False)
    assert torch.isfinite(G(latents(2).cuda())).all()


def test_a_head_from_the_gpu_loads_on_the_cpu_and_back(tmp_path):
    loop = attached()
    AFL(loop, batch=8, lr=1e-2, recalibrate=2, loss="bce").fit(images(), latents, 4, out=tmp_path, progress=False)
    z = torch.randn(2, 6, 1, 1, device="cpu")
    made = loop(z.cuda())
    G, D = pair()
    again = fbwrap.from_pretrained(tmp_path / "head", G, D)
    torch.testing.assert_close(again(z.cuda()), made, rtol=0, atol=0)
    again.detach()
    G, D = (net.cpu() for net in pair())
    torch.testing.assert_close(fbwrap.from_pretrained(tmp_path / "head", G, D)(z), made.cpu(), rtol=1e-3, atol=1e-3)


def test_measures_and_studies_are_those_of_the_cpu():
    a, b = torch.randn(300, 5, device="cpu"), torch.randn(300, 5, device="cpu") + 0.3
    for measure in (frechet_distance, kernel_distance, precision_and_recall):
        torch.testing.assert_close(measure(a.cuda(), b.cuda()), measure(a, b), rtol=1e-6, atol=1e-8)
    study = controls(attached(), latents(6).cuda(), lambda y: {"mean": float(y.mean())})
    assert len(study.rows) == 5


def test_samplers_run_where_g_is():
    """Latents and noise are drawn on the CPU, so a seed draws the same inputs on every device."""
    from fbwrap.samplers import SAMPLERS

    few = {"mhgan": {"length": 2}, "ddls": {"steps": 2}, "dgflow": {"steps": 2}, "dot": {"steps": 2}}
    few |= {"topk": {"of": 2}, "collaborative": {"steps": 2}, "drs": {"burn_in": 8}}
    G, D = pair()
    for name, made in SAMPLERS.items():
        drawn = []
        for device in ("cpu", "cuda"):
            torch.manual_seed(1)
            loop = fbwrap.attach(G.to(device), D.to(device), ["main.5"], example=latents(2).to(device))
            loop.latents = "normal"
            drawn.append(made(loop, loss="bce", batch=4, **few.get(name, {})).draw(6))
            assert drawn[-1].output.device.type == device, name
            loop.detach()
        if name in ("plain", "ddls", "dgflow", "dot"):  # what chooses may choose another one for a last bit
            assert torch.allclose(drawn[0].output, drawn[1].output.cpu(), atol=1e-2), name
