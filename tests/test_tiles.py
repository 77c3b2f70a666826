"""Large pictures in tiles: as the whole where a pixel sees no farther than the overlap, and no seams."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import command
from test_studio import sr_loop
from torch import nn

from fbwrap.app import of_pictures
from fbwrap.app.sample import sample
from fbwrap.app.tiles import Tiles, in_tiles
from fbwrap.errors import SettingError


def network(scale: int = 2, convolutions: int = 3):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU()][: 2 * (convolutions - 1)]
    width = 4 if layers else 3
    return nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale)).eval()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(64, 64), (50, 97), (33, 20), (130, 65)])
@torch.no_grad()
def test_tiles_are_the_whole_where_a_pixel_sees_no_farther_than_a_quarter_of_the_overlap(scale, size):
    net, picture = network(scale), torch.rand(1, 3, *size)
    made = in_tiles(net, picture, Tiles(32, 12))  # three convolutions see three pixels
    assert torch.allclose(made, net(picture), atol=2e-5)


@torch.no_grad()
def test_a_smaller_overlap_is_not_exact_but_has_no_seams():
    net, picture = network(), torch.rand(1, 3, 80, 80)
    off = (in_tiles(net, picture, Tiles(32, 2)) - net(picture)).abs().max()
    assert 1e-5 < off < 0.5
    # a network that adds a number of each tile's own: the steps between tiles are smeared over the overlap
    count = iter(range(100))
    steps = in_tiles(lambda x: x * 0 + next(count), torch.zeros(1, 1, 64, 192), Tiles(64, 32))
    assert steps.diff(dim=3).abs().max() < 0.1
    assert steps.max() == 4


@torch.no_grad()
def test_a_picture_that_fits_is_run_as_a_whole():
    seen = []

    def run(x):
        seen.append(tuple(x.shape))
        return x

    in_tiles(run, torch.zeros(1, 3, 32, 20), Tiles(32, 8))
    assert seen == [(1, 3, 32, 20)]
    in_tiles(run, torch.zeros(1, 3, 100, 20), Tiles(32, 8))
    assert {shape[2:] for shape in seen[1:]} == {(32, 20)}


def test_what_does_not_fit_is_said():
    with pytest.raises(SettingError, match="half of a tile"):
        Tiles(32, 20)
    with pytest.raises(SettingError, match="as large"):
        in_tiles(lambda x: F.avg_pool2d(x, 2), torch.zeros(1, 3, 64, 64), Tiles(32, 8))
    with pytest.raises(SettingError, match="as large"):
        in_tiles(lambda x: x.mean((2, 3)), torch.zeros(1, 3, 64, 64), Tiles(32, 8))


@pytest.mark.parametrize(("length", "starts"), [(10, [0]), (32, [0]), (33, [0, 1]), (56, [0, 24]), (60, [0, 24, 28])])
def test_tiles_cover_the_picture(length, starts):
    assert Tiles(32, 8).starts(length) == starts


# -- fbwrap sample --input ------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    from PIL import Image

    dice = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, mode, size in (("a", "RGB", (70, 50)), ("b", "RGBA", (40, 90)), ("c", "RGB", (16, 16))):
        channels = {"RGB": 3, "RGBA": 4}[mode]
        pixels = dice.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def read(path):
    from PIL import Image

    return np.asarray(Image.open(path)).astype(int)


def test_pictures_in_tiles_and_as_a_whole(photos, tmp_path):
    loop = sr_loop()
    whole = sample(loop, tmp_path / "whole", source=photos, span=(0.0, 1.0))
    tiled = sample(loop, tmp_path / "tiled", source=photos, span=(0.0, 1.0), tiles=Tiles(32, 16))
    for one, other in zip(whole.files, tiled.files, strict=True):
        assert read(one).shape == read(other).shape
        assert abs(read(one) - read(other)).mean() < 3  # D sees tiles, and is one of strides
    assert (read(whole.files[2]) == read(tiled.files[2])).all()


def test_transparency_is_kept(photos, tmp_path):
    from PIL import Image

    made = sample(sr_loop(), tmp_path / "out", source=photos / "b.png", span=(0.0, 1.0))
    found = Image.open(made.files[0])
    assert found.mode == "RGBA"
    wanted = Image.open(photos / "b.png").getchannel("A").resize(found.size, Image.Resampling.BICUBIC)
    assert (np.asarray(found.getchannel("A")) == np.asarray(wanted)).all()
    assert Image.open(sample(sr_loop(), tmp_path / "o", source=photos / "a.png").files[0]).mode == "RGB"


def test_the_same_command_goes_on_where_it_was_stopped(photos, tmp_path, monkeypatch):
    loop, runs = sr_loop(), []
    once = of_pictures.made_of
    monkeypatch.setattr(of_pictures, "made_of", lambda *given: runs.append(given[1].shape) or once(*given))

    def files(**options):
        runs.clear()
        return sample(loop, tmp_path / "out", source=photos, span=(0.0, 1.0), **options).files

    first = {path.name: path.read_bytes() for path in files()}
    assert len(runs) == 3
    assert {path.name: path.read_bytes() for path in files()} == first
    assert not runs
    (tmp_path / "out" / "b.png").unlink()
    files()
    assert len(runs) == 1
    (photos / "a.png").write_bytes((photos / "c.png").read_bytes())
    files()
    assert len(runs) == 1, "another picture of the same name"
    with loop.settings(strength=0.3):
        files()
    assert len(runs) == 3, "another strength"
    files(tiles=Tiles(32, 8))
    assert len(runs) == 3
    with torch.no_grad():
        next(loop.parameters()).add_(0.1)
    files()
    assert len(runs) == 3, "another head"
    (tmp_path / "out" / "b.png").write_bytes(b"no picture")
    files()
    assert len(runs) == 1


def test_tiles_from_the_command_line_and_where_there_are_none(tmp_path):
    from digits import FOLDER, NETWORKS

    done = command("sample", FOLDER / "head", *NETWORKS, "-n", 2, "--tile", 32, "--out", tmp_path)
    assert done.exit_code == 1
    assert "Tiles are for pictures" in done.output
    done = command("sample", FOLDER / "head", *NETWORKS, "-n", 2, "--tile", 32, "--overlap", 20, "--out", tmp_path)
    assert "half of a tile" in " ".join(done.output.split())
