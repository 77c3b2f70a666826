"""Pictures: what they show, that they are whole, and what is noted inside."""

import numpy as np
import pytest
import torch
from helpers import stir
from PIL import Image
from torch import nn
from zoo import Deconv, patch

import fbwrap
from fbwrap import plots
from fbwrap.errors import SettingError

Z = torch.randn(3, 6, 1, 1, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def loop():
    torch.manual_seed(0)
    return stir(fbwrap.attach(Deconv().eval(), patch().eval(), [("main.5", "1")], example=Z))


def drawn(figure, tmp_path):
    plots.save(figure, tmp_path / "x.png")
    return [image for axes in figure.axes for image in axes.images]


def test_steps_show_every_sample_at_every_step(loop, tmp_path):
    rollout = loop.rollout(Z, steps=2)
    shown = drawn(plots.steps(rollout), tmp_path)
    assert len(shown) == 9
    wanted = plots.unit(rollout.outputs[2][1], (-1, 1)).permute(1, 2, 0).detach().expand(-1, -1, 3)
    assert np.allclose(shown[3 + 2].get_array(), wanted, atol=1e-6), "row 1, column 2"
    assert len(drawn(plots.steps(rollout, samples=2), tmp_path)) == 6


def test_the_first_step_of_fal_is_not_shown(tmp_path):
    torch.manual_seed(0)
    fal = fbwrap.attach(Deconv().eval(), patch().eval(), ["main.5"], module="ast", steps=2, example=Z)
    assert len(drawn(plots.steps(fal.rollout(Z)), tmp_path)) == 6


def test_differences_share_one_scale(loop, tmp_path):
    before, after = loop.rollout(Z, steps=0).output, loop(Z)
    shown = drawn(plots.difference(before, after), tmp_path)
    change = (after - before).mean(1).abs().max()
    assert len({image.get_clim() for image in shown if image.get_cmap().name == "RdBu_r"}) == 1
    assert next(i for i in shown if i.get_cmap().name == "RdBu_r").get_clim()[1] == pytest.approx(float(change))
    drawn(plots.difference(before, before), tmp_path)  # no difference at all


def test_responses_want_a_map(loop, tmp_path):
    assert len(drawn(plots.responses(loop.rollout(Z, steps=1)), tmp_path)) >= 12
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    channels = loop(Z).shape[1]
    pooled[0] = nn.Conv2d(channels, 4, 3)
    other = fbwrap.attach(Deconv().eval(), pooled.eval(), [("main.5", "0")], example=Z)
    with pytest.raises(SettingError, match="one number a sample"):
        plots.responses(other.rollout(Z))


def test_strengths_leave_the_loop_as_it_was(loop, tmp_path):
    loop.strength = 0.3
    shown = drawn(plots.strengths(loop, Z, values=(0.0, 1.0)), tmp_path)
    assert loop.strength == 0.3
    base = plots.pictures(loop.rollout(Z, steps=0).output)[0].permute(1, 2, 0).detach()
    assert np.allclose(shown[0].get_array(), base, atol=1e-6)
    assert not np.allclose(shown[1].get_array(), base, atol=1e-4)


def test_voxels_signals_and_tokens(tmp_path):
    cubes = torch.zeros(2, 1, 8, 8, 8)
    cubes[:, :, 2:5, 3:6, 1:4] = 1
    figure = plots.voxels(cubes, slices=3)
    assert len(drawn(figure, tmp_path)) == 6
    with pytest.raises(SettingError, match=r"cubes \(N, C, X, Y, Z\)"):
        plots.voxels(torch.zeros(2, 1, 8, 8))
    assert plots.pictures(cubes).shape == (2, 3, 8, 8)
    assert plots.pictures(torch.zeros(2, 1, 16)).shape == (2, 3, 1, 16)
    assert plots.pictures(torch.zeros(2, 5, 4, 4)).shape == (2, 3, 4, 4)


def test_animations_have_a_frame_a_step(loop, tmp_path):
    rollout = loop.rollout(Z, steps=3)
    with Image.open(plots.animation(rollout, tmp_path / "new" / "a.gif")) as image:
        assert image.n_frames == 4
    with pytest.raises(SettingError, match=r"\.gif or \.mp4"):
        plots.animation(rollout, tmp_path / "a.avi")
    pytest.importorskip("imageio_ffmpeg", reason="MP4 wants imageio with ffmpeg")
    import imageio.v2 as imageio

    frames = imageio.mimread(plots.animation(rollout, tmp_path / "a.mp4", seconds=0.2))
    assert len(frames) == 8


def test_what_was_noted_is_read_back(loop, tmp_path):
    loop.strength = 0.4
    path = plots.save(plots.strengths(loop, Z), tmp_path / "deep" / "s.png", loop, seed=7)
    assert plots.facts(path) == {"strength": "0.4", "steps": "1", "seed": "7"}
    assert plots.save(plots.strengths(loop, Z), tmp_path / "s.pdf", loop).read_bytes().startswith(b"%PDF")


def test_a_failed_picture_leaves_the_old_one(loop, tmp_path):
    class Broken:
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            raise OSError("No space left on device")

    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        plots.save(Broken(), tmp_path / "x.png")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.png", b"old")]


def test_names_and_ranges_that_cannot_be(loop, tmp_path):
    figure = plots.strengths(loop, Z, values=(1.0,))
    for name in ("plot", "a.xyz"):
        with pytest.raises(SettingError, match="end the name in one of"):
            plots.save(figure, tmp_path / name)
    assert not list(tmp_path.iterdir())
    assert plots.facts(plots.save(figure, tmp_path / "UP.PNG", seed=1)) == {"seed": "1"}
    with pytest.raises(SettingError, match="black, then as white"):
        plots.pictures(loop(Z), (1.0, -1.0))


def test_answers_that_are_not_one_a_sample_are_not_shown(tmp_path):
    class Mean(nn.Sequential):
        def forward(self, x):
            return super().forward(x).mean()

    torch.manual_seed(0)
    one = fbwrap.attach(Deconv().eval(), Mean(*patch()).eval(), [("main.5", "1")], example=Z)
    assert plots.answers_of(one.rollout(Z)) == ()
    plots.save(plots.steps(one.rollout(Z)), tmp_path / "x.png")


def test_a_sound_is_as_wide_as_a_picture():
    assert plots.pictures(torch.randn(2, 1, 8192)).shape == (2, 3, 32, 512)


def test_the_scale_of_responses_is_that_of_the_samples_shown():
    outputs, answers = [torch.zeros(9, 3, 8, 8)], [torch.rand(9, 1, 4, 4)]
    answers[0][8] = 100.0
    figure = plots.response_overlay(outputs, answers, samples=4)
    heat = figure.axes[0].images[1]
    assert heat.get_clim()[1] < 1


def test_the_reliability_diagram_draws_the_calibrations_curve(loop, tmp_path):
    loop.latents = "normal"
    real = torch.rand(120, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    calibration = fbwrap.calibrate(loop, real)
    figure = plots.reliability(calibration)
    curve = figure.axes[0].lines[-1]
    assert list(curve.get_xdata()) == [p for p, *_ in calibration.curve]
    assert list(curve.get_ydata()) == [share for _, share, _ in calibration.curve]
    assert f"AUC {calibration.auc:.2f}" in figure.axes[0].get_title()
    assert plots.save(figure, tmp_path / "reliability.png").stat().st_size > 1000
