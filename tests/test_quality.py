"""Metrics against other libraries, against published numbers, and by hand."""

import builtins

import pytest
import torch
from fbwrap.recipes import metrics as M
from fbwrap.recipes.metrics import quality as Q
from torch import nn

from fbwrap.errors import SettingError


def test_precision_and_recall_of_known_manifolds():
    dice = torch.Generator().manual_seed(0)
    real = torch.randn(300, 2, generator=dice)
    far = real + 100
    assert M.precision_and_recall(real, real) == (1.0, 1.0)
    assert M.precision_and_recall(far, real) == (0.0, 0.0)
    # samples that are all alike and real: precise, and they recall only the real ones near them
    alike = real[:1] + 1e-3 * torch.randn(300, 2, generator=dice)
    precision, recall = M.precision_and_recall(alike, real)
    assert precision > 0.9
    assert recall < 0.05
    half = torch.cat([real[:150], far[:150]])
    assert 0.45 < M.precision_and_recall(half, real)[0] < 0.55


def test_precision_and_recall_equal_torch_fidelitys():
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_prc import prc_features_to_metric

    dice = torch.Generator().manual_seed(1)
    a, b = torch.randn(200, 5, generator=dice), 0.7 * torch.randn(200, 5, generator=dice) + 0.5
    theirs = prc_features_to_metric(a, b, prc_neighborhood=3, prc_batch_size=64, verbose=False, save_cpu_ram=False)
    ours = M.precision_and_recall(a, b)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_inception_score_of_known_answers():
    sure = 100 * torch.eye(10).repeat(5, 1)
    assert M.inception_score(sure) == pytest.approx(10.0)
    assert M.inception_score(torch.zeros(50, 10)) == pytest.approx(1.0)
    assert M.inception_score(100 * torch.eye(10)[:1].repeat(50, 1)) == pytest.approx(1.0)


def test_inceptions_own_score_is_that_of_ten_parts(monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Fake(nn.Module):
        def __init__(self, name, wanted):
            super().__init__()
            assert wanted == ["2048", "logits_unbiased"]

        def forward(self, x):
            assert x.dtype == torch.uint8
            flat = x.float().flatten(1) / 255
            return flat[:, :8], 9 * flat[:, 8:18]

    monkeypatch.setattr(module, "FeatureExtractorInceptionV3", Fake)
    y = torch.rand(100, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = M.inception((0.0, 1.0)).distances(y, y)
    logits = 9 * (y * 255).round().flatten(1)[:, 8:18] / 255
    parts = torch.tensor([M.inception_score(part) for part in logits.split(10)])
    assert found["inception score[Inception-v3]"] == pytest.approx(float(parts.mean()), rel=1e-5)
    assert found["its deviation[Inception-v3]"] == pytest.approx(float(parts.std(correction=0)), rel=1e-4)
    assert found["frechet[Inception-v3]"] == pytest.approx(0.0, abs=1e-6)


def test_inception_score_equals_torchmetrics():
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.inception import InceptionScore

    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.float().flatten(1) * 5

    x = torch.rand(80, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    theirs = InceptionScore(feature=Flat(), splits=1, normalize=True)
    theirs.update(x)
    assert M.inception_score(Flat()((x * 255).byte())) == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_niqe_tells_noise_from_a_smooth_picture_and_wants_two_blocks():
    pytest.importorskip("basicsr")
    grid = torch.linspace(0, 20, 192)
    smooth = (0.5 + 0.4 * (grid[:, None].sin() * (1.3 * grid).cos())).expand(1, 3, -1, -1)
    noisy = (smooth + 0.3 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert Q.niqe(noisy) > Q.niqe(smooth.clone()) + 5
    from basicsr.metrics.niqe import calculate_niqe

    coloured = noisy * torch.tensor([1.0, 0.3, 0.1]).view(1, 3, 1, 1)
    theirs = calculate_niqe((coloured[0].flip(0) * 255).round().permute(1, 2, 0).numpy(), crop_border=0)  # BGR
    assert Q.niqe(coloured) == pytest.approx(theirs, rel=1e-5)
    assert Q.niqe(coloured) != pytest.approx(Q.niqe(coloured.flip(1)), rel=1e-3)
    assert Q.niqe(2 * noisy - 1, (-1.0, 1.0)) == pytest.approx(Q.niqe(noisy), rel=1e-3)
    with pytest.raises(SettingError, match="at least two"):
        Q.niqe(noisy[..., :100, :100])


def test_segmentation_by_hand():
    wanted = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, 255]]])
    found = torch.tensor([[[0, 1, 1, 1], [2, 2, 0, 0]]])
    numbers = Q.segmentation(found, wanted, 4)
    assert numbers["pixels"] == pytest.approx(5 / 7)
    assert numbers["classes"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert numbers["IoU"] == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3), (
        "the fourth class is nowhere: it does not count"
    )
    seen = Q.segmentation(torch.tensor([[[0, 0, 0, 1]]]), torch.zeros(1, 1, 4, dtype=torch.long), 2)
    assert seen["IoU"] == pytest.approx(0.375), "a class that is seen and not there counts as 0"
    assert seen["classes"] == 0.75
    with pytest.raises(SettingError, match="found holds labels outside 0 … 1"):
        Q.segmentation(torch.tensor([[[5]]]), torch.tensor([[[0]]]), 2)


def test_depth_by_hand():
    wanted = torch.tensor([[1.0, 2.0, 4.0, 0.0]])
    found = torch.tensor([[1.2, 2.0, 8.0, 9.0]])
    numbers = Q.depth(found, wanted)
    assert numbers["rel"] == pytest.approx((0.2 + 0 + 1) / 3)
    assert numbers["rmse"] == pytest.approx(((0.04 + 0 + 16) / 3) ** 0.5, rel=1e-5)
    assert [numbers[f"δ{i}"] for i in (1, 2, 3)] == pytest.approx([2 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("package", "call", "says"),
    [
        ("lpips", lambda x: Q.lpips(x, x), "LPIPS cannot be loaded"),
        ("pyiqa", Q.perceptual_index, "PI cannot be loaded"),
        ("torch_fidelity", lambda x: M.inception(), "Inception cannot be loaded"),
        ("basicsr", Q.niqe, "NIQE needs basicsr"),
    ],
)
def test_what_cannot_be_had_is_said(monkeypatch, package, call, says):
    if package == "basicsr":
        pytest.importorskip("torchvision")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingError, match=says):
        call(torch.rand(1, 3, 192, 192))


def test_lpips_by_the_package_with_a_random_trunk(monkeypatch):
    package = pytest.importorskip("lpips")
    real = package.LPIPS
    monkeypatch.setattr(package, "LPIPS", lambda net, verbose: real(net=net, pnet_rand=True, verbose=False))
    Q._lpips.cache_clear()
    try:
        x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert Q.lpips(x, x, (0.0, 1.0)) == 0.0
        near, far = Q.lpips(x, 0.9 * x, (0.0, 1.0)), Q.lpips(x, x.flip(3), (0.0, 1.0))
        assert 0 < near < far
    finally:
        Q._lpips.cache_clear()


def test_image_quality_by_hand():
    pytest.importorskip("torchmetrics")
    torch.manual_seed(0)
    x = torch.rand(3, 3, 32, 32)
    y = (x + 0.1).clamp(0, 1)
    found = Q.image_quality(2 * y - 1, 2 * x - 1, (-1.0, 1.0))
    mse = (x - y).square().flatten(1).mean(1)
    assert found["rmse"] == pytest.approx(float(mse.sqrt().mean() * 255), rel=1e-4)
    assert found["psnr"] == pytest.approx(float((-10 * mse.log10()).mean()), rel=1e-4)
    assert Q.image_quality(x, x)["ssim"] == pytest.approx(1.0)
