"""Films through ``fbwrap sample``: every frame, the same rate, and nothing half-written."""

import numpy as np
import pytest
import torch

import fbwrap
from fbwrap import plots
from fbwrap.app.of_videos import is_video
from fbwrap.app.sample import sample
from fbwrap.app.tiles import Tiles
from fbwrap.errors import SettingError

imageio = pytest.importorskip("imageio.v2")
pytest.importorskip("imageio_ffmpeg")
SPAN = (0.0, 1.0)


@pytest.fixture
def film(tmp_path):
    """Nine frames, 24 by 32, in which a bright square moves, 12 a second."""
    path = tmp_path / "film.mp4"
    frames = np.full((9, 24, 32, 3), 40, np.uint8)
    for t, frame in enumerate(frames):
        frame[8:16, 2 * t : 2 * t + 8] = 200
    imageio.mimwrite(path, list(frames), fps=12, macro_block_size=2, quality=10)
    return path


def read(path):
    with imageio.get_reader(path) as reader:
        return np.stack(list(reader.iter_data())), reader.get_meta_data()["fps"]


@pytest.mark.parametrize("tiles", [None, Tiles(16, 8)])
def test_each_frame_is_what_the_loop_makes_of_it(sr, film, tmp_path, tiles):
    *_, loop = sr
    made = sample(loop, tmp_path / "out", source=film, span=SPAN, tiles=tiles)
    assert made.files == [tmp_path / "out" / "film.mp4"]
    assert made.overview.is_file()
    given, _ = read(film)
    frames, rate = read(made.files[0])
    assert rate == 12
    assert frames.shape == (9, 48, 64, 3)
    x = torch.from_numpy(given.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = torch.cat([loop(frame[None]) for frame in x])
    shown = plots.pictures(wanted, SPAN).permute(0, 2, 3, 1).numpy() * 255
    light = np.array([0.299, 0.587, 0.114])  # H.264 keeps it best
    found, wanted = ((each.astype(float) @ light).reshape(9, -1) for each in (frames, shown))
    apart = np.abs(found[:, None] - wanted[None]).mean(2)
    assert np.diag(apart).max() < (10 if tiles else 6), "but for what H.264 loses (and at borders of tiles)"
    assert (apart.argmin(1) == np.arange(9)).all(), "in their order"


def test_what_is_no_film_and_what_fails_leaves_nothing(sr, film, tmp_path, monkeypatch):
    *_, loop = sr
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(SettingError, match="cannot be read as a film"):
        sample(loop, tmp_path / "out", source=broken, span=SPAN)
    from fbwrap.app import of_videos

    whole, seen = of_videos.made_of, []

    def fails(*given):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(of_videos, "made_of", fails)
    with pytest.raises(KeyboardInterrupt):
        sample(loop, tmp_path / "out", source=film, span=SPAN)
    assert not list((tmp_path / "out").glob("*.mp4*"))
    assert not is_video(tmp_path / "nothing.mp4")


def test_frames_that_are_missing_are_told(sr, film, tmp_path, monkeypatch, caplog):
    from contextlib import contextmanager

    from fbwrap.app import of_videos

    *_, loop = sr
    whole = of_videos._frames_of

    @contextmanager
    def short(source):
        with whole(source) as (frames, rate, _):
            yield (frame for place, frame in enumerate(frames) if place < shown[0]), rate, 9

    monkeypatch.setattr(of_videos, "_frames_of", short)
    shown = [5]
    sample(loop, tmp_path / "out", source=film, span=SPAN)
    assert "5 frames could be read, of about 9" in caplog.text
    shown[0] = 0
    with pytest.raises(SettingError, match="no frame"):
        sample(loop, tmp_path / "none", source=film, span=SPAN)
    assert not list((tmp_path / "none").glob("*.mp4*"))


def test_a_g_of_noise_takes_no_film(film, tmp_path):
    from zoo import Deconv, patch

    with (
        fbwrap.attach(Deconv().eval(), patch(), "auto", example=torch.randn(2, 6, 1, 1)) as loop,
        pytest.raises(SettingError, match="leave out --input"),
    ):
        sample(loop, tmp_path / "out", source=film)


def test_an_odd_side_gets_one_more_row():
    from fbwrap.app.of_videos import _as_frame

    frame = _as_frame(torch.linspace(0, 1, 15).view(1, 3, 5))
    assert frame.shape == (4, 6, 3)
    assert (frame[3] == frame[2]).all()
