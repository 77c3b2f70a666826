"""The papers' studies on a small loop: what each row is, by hand; files; and the metrics against other libraries."""

import csv

import numpy as np
import pytest
import torch
from fbwrap.recipes import studies as S
from fbwrap.recipes.metrics import Space, accuracy, kernel_distance
from helpers import stir
from torch import nn
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import SettingError


@pytest.fixture
def loop():
    torch.manual_seed(0)
    G, D = Deconv().eval(), patch().eval()
    loop = stir(fbwrap.attach(G, D, [("main.2", "3"), ("main.5", "1")], example=torch.randn(2, 6, 1, 1)))
    loop[0].strength = 0.7
    return loop


Z = torch.randn(7, 6, 1, 1, generator=torch.Generator().manual_seed(1))
measure = lambda y: {"mean": float(y.mean()), "std": float(y.std())}


def test_generated_in_batches_is_the_rollout(loop):
    with torch.no_grad():
        whole = loop.rollout(Z, steps=2).outputs
    for a, b in zip(S.generated(loop, Z, batch=3, steps=2), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_strength_sweep(loop):
    study = S.strength_sweep(loop, Z, measure, (0.0, 0.5), (1, 2))
    assert [(row["strength"], row["steps"]) for row in study.rows] == [(0.0, "1"), (0.0, "2"), (0.5, "1"), (0.5, "2")]
    with torch.no_grad(), loop.settings(strength=0.5, steps=2):
        assert study.rows[3]["mean"] == pytest.approx(float(loop(Z).mean()), abs=1e-6)
        assert study.rows[0]["mean"] == pytest.approx(float(loop.generator(Z).mean()), abs=1e-6)


def test_one_module_at_a_time(loop):
    study = S.one_at_a_time(loop, Z, measure)
    assert [row["modules"] for row in study.rows] == ["none", "0: main.2", "1: main.5", "all"]
    with torch.no_grad():
        assert study.rows[0]["mean"] == pytest.approx(float(loop.generator(Z).mean()), abs=1e-6)
        assert study.rows[3]["mean"] == pytest.approx(float(loop(Z).mean()), abs=1e-6)
        with loop.settings(strength={1: 0.0}):
            assert study.rows[1]["mean"] == pytest.approx(float(loop(Z).mean()), abs=1e-6)
    assert loop[0].strength == 0.7


def test_controls_and_switching(loop):
    study = S.controls(loop, Z, measure)
    numbers = [row["mean"] for row in study.rows]
    assert len(set(numbers)) == 5
    with torch.no_grad():
        assert numbers[1] == pytest.approx(float(loop(Z).mean()), abs=1e-6)
        rolled = loop.rollout(Z, reference=loop.generator(Z).roll(1, 0)).output
        assert numbers[2] == pytest.approx(float(rolled.mean()), abs=1e-6), "the features of another sample, by hand"
        image = torch.rand(7, 3, 16, 16)
        wanted = loop.rollout(Z, reference=image).output.mean()
    switched = S.switching(loop, Z, image, measure)
    by = {(row["strength"], row["D looks at"]): row for row in switched.rows}
    assert by[1.0, "the reference"]["mean"] == pytest.approx(float(wanted), abs=1e-6)
    assert by[1.0, "the sample"]["mean"] == pytest.approx(numbers[1], abs=1e-6)
    assert len(by) == 6
    with torch.no_grad():
        seen = loop.rollout(Z, reference=image).output
    assert by[1.0, "the reference"]["to the reference"] == pytest.approx(
        float((seen - image).square().mean().sqrt()), abs=1e-6
    )
    with pytest.raises(SettingError, match="two or more"):
        S.controls(loop, Z[:1], measure)
    assert not any(module._forward_pre_hooks for module in loop.feedback)
    with pytest.raises(SettingError, match="pass one of"), S.replaced_signals(loop, "nonsense"):
        pass


def test_variance_beyond_and_fooling(loop):
    study = S.latent_variance(loop, Z, measure, (1.0, 4.0))
    with torch.no_grad():
        assert study.rows[2]["mean"] == pytest.approx(float(loop.generator(Z * 2).mean()), abs=1e-6)
        assert study.rows[3]["mean"] == pytest.approx(float(loop(Z * 2).mean()), abs=1e-6)
    rows = S.more_steps(loop, Z, measure, 4).rows
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["probability"] for row in rows[:3]] == [row["probability"] for row in S.fooling(loop, Z, 2).rows]
    study = S.fooling(loop, Z, 2, batch=3)
    with torch.no_grad():
        responses = loop.rollout(Z, steps=2).responses
    for row, response in zip(study.rows, responses, strict=True):
        assert row["probability"] == pytest.approx(float(response.flatten(1).mean(1).sigmoid().mean()), abs=1e-5)


def test_probabilities_are_those_of_the_loss_that_d_learned(loop):
    responses = S.fooling(loop, Z, 2).rows
    told = {"hinge": "sigmoid", "least_squares": "itself", "wasserstein_gp": None, "relativistic": None}
    for loss, how in told.items():
        loop.note(trained_on={"options": {"loss": loss}})
        for row, plain in zip(S.fooling(loop, Z, 2).rows, responses, strict=True):
            assert row["response"] == plain["response"]
            assert ("probability" in row) is (how is not None)
            if how == "sigmoid":
                assert row["probability"] == plain["probability"]
            if how == "itself":
                with torch.no_grad():
                    answer = loop.rollout(Z, steps=2).responses[row["step"]].flatten(1).mean(1)
                assert row["probability"] == pytest.approx(float(answer.clamp(0, 1).mean()), abs=1e-6)


def test_another_sample_wants_another_one_and_one_number_is_its_own_noise(loop):
    with S.replaced_signals(loop, "another sample"), pytest.raises(SettingError, match="A batch of one"):
        loop(Z[:1])
    G, D = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), nn.Linear(2, 1)
    points = fbwrap.attach(G, D, [("0", "response")], example=torch.zeros(2, 2))
    with S.replaced_signals(points, "noise"):
        assert torch.isfinite(points(torch.zeros(1, 2))).all()
    sizes = []
    S.in_batches(lambda z: [sizes.append(len(z)) or z], torch.zeros(101, 2))
    assert sizes == [51, 50], "no batch of one is left at the end"


def test_pictures_and_points_of_a_study(loop, tmp_path):
    from PIL import Image

    study = S.switching(loop, Z, torch.zeros(len(Z), 3, 16, 16), measure, (0.5,))
    assert list(study.shown) == ["reference", "no feedback", "the sample, α = 0.5", "the reference, α = 0.5"]
    study.save(tmp_path)
    S.one_at_a_time(loop, Z, measure).save(tmp_path)
    G, D = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), nn.Linear(2, 1)
    points = fbwrap.attach(G, D, [("0", "response")], example=torch.zeros(2, 2))
    S.latent_variance(points, torch.randn(50, 2), measure).save(tmp_path)
    for name in ("switching", "modules", "variance"):
        assert np.asarray(Image.open(tmp_path / f"{name}_samples.png").convert("L")).std() > 1
    assert not list(tmp_path.glob(".*"))
    assert S.strength_sweep(loop, Z, measure, (0.0,), (1,)).samples() is None
    held = {"half": torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16), "none": torch.full((2, 3, 4, 4), float("nan"))}
    assert S.Study("odd", "a", ({"a": 1.0, "b": 2.0},), held).samples() is not None
    with pytest.raises(SettingError, match=r"A variance of -1\.0"):
        S.latent_variance(points, torch.randn(5, 2), measure, (-1.0,))


def test_files(loop, tmp_path):
    for study in (S.strength_sweep(loop, Z, measure, (0.0, 1.0), (1,)), S.controls(loop, Z, measure)):
        study.save(tmp_path)
        with open(tmp_path / f"{study.name}.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["mean"]) for row in rows] == [row["mean"] for row in study.rows]
        assert (tmp_path / f"{study.name}.png").read_bytes()[:4] == b"\x89PNG"
        assert study.axis in str(study)


def test_distances_equal_those_of_torchmetrics():
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.float().flatten(1)

    torch.manual_seed(0)
    a, b = torch.rand(80, 3, 2, 2), torch.rand(90, 3, 2, 2) ** 2
    fid = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2))
    kid = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=80, normalize=True)
    for metric in (fid, kid):
        metric.update(a, real=False)
        metric.update(b[:80] if metric is kid else b, real=True)
    assert Space("pixels", Flat()).distances(a, b)["frechet[pixels]"] == pytest.approx(float(fid.compute()), rel=1e-3)
    assert kernel_distance(a.flatten(1), b[:80].flatten(1)) == pytest.approx(float(kid.compute()[0]), rel=1e-3)


def test_accuracy():
    samples = torch.eye(4)
    assert accuracy(lambda x: x, samples, 2) == 0.25


def test_the_base_of_a_fal_loop_is_g_and_not_zeros():
    from zoo import Residual

    torch.manual_seed(0)
    loop = stir(fbwrap.attach(Residual(), patch(), ["body.1"], module="ast", example=torch.zeros(1, 3, 8, 8)), 0.1)
    x = torch.rand(4, 3, 8, 8)
    rows = S.latent_variance(loop, x, measure, (1.0,)).rows
    with torch.no_grad():
        assert rows[0]["mean"] == pytest.approx(float(loop.generator(x).mean()), abs=1e-6)
    with S.replaced_signals(loop, "noise"):
        once = S.generated(loop, x)[-1]
    with S.replaced_signals(loop, "noise"):
        assert torch.equal(once, S.generated(loop, x)[-1]), "the same noise each time"


def test_response_maps(tmp_path):
    from fbwrap.recipes.studies.maps import response_maps
    from zoo import Residual

    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, 1, 1)).eval()
    loop = stir(fbwrap.attach(Residual(), D, ["body.1"], module="ast", example=torch.zeros(1, 3, 8, 8)), 0.1)
    x = torch.rand(2, 3, 8, 8)
    maps = response_maps(loop, x, steps=2)
    with torch.no_grad():
        responses = loop.rollout(x, steps=2).responses[1:]
    assert [(row["step"], row["sample"]) for row in maps.rows] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert maps.rows[3]["mean"] == pytest.approx(float(responses[1][1].mean()), abs=1e-6)
    assert maps.rows[3]["lowest"] < maps.rows[3]["mean"] < maps.rows[3]["highest"]
    maps.save(tmp_path)
    with open(tmp_path / "response.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    panels = [axes for axes in maps.plot().axes if len(axes.images) == 2]
    assert len(panels) == 4
    for axes, (t, i) in zip(panels, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        under, over = axes.images
        torch.testing.assert_close(
            torch.as_tensor(under.get_array()).float(), ((maps.outputs[t][i] + 1) / 2).clamp(0, 1).permute(1, 2, 0)
        )
        heat = nn.functional.interpolate(responses[t][i : i + 1], (16, 16), mode="bilinear")[0, 0]
        torch.testing.assert_close(torch.as_tensor(over.get_array()).float(), heat)


def test_a_response_without_places_has_no_map():
    from fbwrap.recipes.studies.maps import response_maps

    D = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 8)).eval()
    loop = fbwrap.attach(Deconv().eval(), D, ["main.5"], example=Z[:2])
    with pytest.raises(SettingError, match="there is no map to show"):
        response_maps(loop, Z[:2])


def test_samplers_beside_feedback(loop, tmp_path, caplog):
    from fbwrap.recipes.studies.samplers import samplers

    loop.latents = "normal"
    few = {"drs": {"burn_in": 10}, "mhgan": {"length": 2}, "dgflow": {"steps": 1}}
    real = torch.rand(40, 3, 8, 8) * 2 - 1
    study = samplers(loop, measure, real=real, count=8, settings={"plain": {}, **few}, repeats=2)
    assert [(row["samples"], row["sampler"]) for row in study.rows] == [
        (which, name) for which in ("G", "head") for name in ("plain", *few)
    ]
    for row in study.rows:
        assert row["mean, least"] <= row["mean"] <= row["mean, most"]
    by = {(row["samples"], row["sampler"]): row for row in study.rows}
    assert by["G", "plain"]["cost"] == pytest.approx(1.0)
    assert by["head", "plain"]["cost"] == pytest.approx(loop.plan.cost)
    assert by["head", "drs"]["cost"] > by["G", "drs"]["cost"] > 1
    assert study.measured == ["mean", "std"]
    study.save(tmp_path)
    assert (tmp_path / "samplers.png").exists()
    assert (tmp_path / "samplers.csv").read_text().count("\n") == 1 + 8
    study = samplers(loop, measure, loss="hinge", count=8, only=["drs", "topk"], repeats=1)
    assert {row["sampler"] for row in study.rows} == {"plain", "topk"}
    assert "drs on G is left out" in caplog.text
    with pytest.raises(SettingError, match="no sampler 'best'"):
        samplers(loop, measure, only=["best"])
