"""Data on disk: what comes out, by hand; what cannot be read; and that a run resumes within a dataset."""

import logging

import numpy as np
import pytest
import torch
from fbwrap.recipes.data import Batches, layouts, voxels
from fbwrap.recipes.data import sources as S
from PIL import Image

from fbwrap.errors import DataError, SettingError


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_images_are_what_is_in_the_files(tmp_path):
    colour, grey = noise(6, 8, 3), noise(8, 6)
    save(tmp_path / "sub" / "a.png", colour)
    save(tmp_path / "b.PNG", grey)
    (tmp_path / "notes.txt").write_text("no picture")
    found = S.Images(tmp_path)
    assert [path.name for path in found.keys] == ["b.PNG", "a.png"]
    assert torch.allclose(found[1], torch.from_numpy(colour).permute(2, 0, 1) / 127.5 - 1)
    assert torch.equal(found[0][0], found[0][2])
    small = S.Images(tmp_path, 4, channels=1, value_range=(0, 1))[1]
    assert small.shape == (1, 4, 4)
    assert 0 <= small.min() <= small.max() <= 1
    wide = S.Images(tmp_path, (4, 8))[1]
    assert wide.shape == (3, 4, 8)
    assert torch.equal(wide, found[1][:, 1:5]), "scaled by one: the middle, untouched"


def test_a_file_that_cannot_be_read_is_named_or_passed_over(tmp_path, caplog):
    save(tmp_path / "a.png", noise(4, 4, 3))
    (tmp_path / "b.png").write_bytes(b"half of a picture")
    with pytest.raises(DataError, match=r"b\.png cannot be read.*on_error='skip'"):
        S.Images(tmp_path)[1]
    with caplog.at_level(logging.WARNING, "fbwrap"):
        passed = S.Images(tmp_path, on_error="skip")
        assert torch.equal(passed[1], passed[0])
    assert "b.png" in caplog.text
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="None of the data can be read"):
        S.Images(tmp_path, on_error="skip")[0]
    for wrong in (lambda: S.Images(tmp_path / "nowhere"), lambda: S.Images(tmp_path, on_error="x")):
        with pytest.raises(DataError, match=r"There is no folder|pass 'stop'"):
            wrong()


def test_pairs_by_name_and_side_by_side(tmp_path, caplog):
    for name in ("x", "y"):
        save(tmp_path / "in" / f"{name}.png", noise(4, 4, 3, seed=ord(name)))
        save(tmp_path / "out" / f"{name}.jpg", noise(4, 4, 3, seed=1))
    save(tmp_path / "in" / "alone.png", noise(4, 4, 3))
    with caplog.at_level(logging.WARNING, "fbwrap"):
        pairs = S.PairedFolders(tmp_path / "in", tmp_path / "out", value_range=(0, 1))
    assert "1 files" in caplog.text
    assert len(pairs) == 2
    assert torch.allclose(pairs[0][0], torch.from_numpy(noise(4, 4, 3, seed=ord("x"))).permute(2, 0, 1) / 255)
    both = noise(4, 8, 3)
    save(tmp_path / "both" / "1.png", both)
    left, right = (torch.from_numpy(side).permute(2, 0, 1) / 127.5 - 1 for side in (both[:, :4], both[:, 4:]))
    first, second = S.SideBySide(tmp_path / "both")[0]
    assert torch.allclose(first, right)
    assert torch.allclose(second, left)
    first, second = S.SideBySide(tmp_path / "both", inputs="left")[0]
    assert torch.allclose(first, left)
    assert S.SideBySide(tmp_path / "both", 8, jitter=True)[0][0].shape == (3, 8, 8)


def test_super_resolution_patches_go_together(tmp_path):
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    save(tmp_path / "a.png", np.stack([np.tile(ramp, (32, 1))] * 3, 2))
    whole_low, whole = S.SuperResolution(tmp_path, 4, None)[0]
    assert (whole_low.shape, whole.shape) == ((3, 8, 10), (3, 32, 40))
    assert torch.allclose(whole_low, torch.nn.functional.avg_pool2d(whole, 4), atol=0.02)
    torch.manual_seed(0)
    low, high = S.SuperResolution(tmp_path, 4, 16)[0]
    assert (low.shape, high.shape) == ((3, 4, 4), (3, 16, 16))
    assert torch.allclose(low, torch.nn.functional.avg_pool2d(high, 4), atol=0.02)
    with pytest.raises(DataError, match="smaller than the patch"):
        S.SuperResolution(tmp_path, 4, 64)[0]
    with pytest.raises(DataError, match="not a multiple"):
        S.SuperResolution(tmp_path, 4, 10)


def test_cityscapes_and_nyu_layouts(tmp_path):
    frame = "aachen/aachen_000000_000019"
    save(tmp_path / "c" / "gtFine" / "train" / f"{frame}_gtFine_color.png", noise(8, 16, 3))
    save(tmp_path / "c" / "gtFine" / "train" / f"{frame}_gtFine_labelIds.png", noise(8, 16))
    save(tmp_path / "c" / "leftImg8bit" / "train" / f"{frame}_leftImg8bit.png", noise(8, 16, 3, seed=1))
    pairs = layouts.cityscapes(tmp_path / "c", (4, 8))
    assert len(pairs) == 1
    assert [part.shape for part in pairs[0]] == [(3, 4, 8), (3, 4, 8)]
    depth = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    (tmp_path / "n" / "train" / "depth").mkdir(parents=True)
    Image.fromarray(depth).save(tmp_path / "n" / "train" / "depth" / "1.png")
    save(tmp_path / "n" / "train" / "rgb" / "1.png", noise(8, 8, 3))
    with pytest.raises(DataError, match=r"There is no folder .*labels\. .*conditions="):
        layouts.NYU(tmp_path / "n")
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8) % 37
    save(tmp_path / "n" / "train" / "labels" / "1.png", labels)
    made, wanted = layouts.NYU(tmp_path / "n", (8, 8), value_range=(0, 1))[0]
    assert (made.shape, wanted.shape) == ((2, 8, 8), (3, 8, 8))
    assert torch.allclose(made[0], torch.from_numpy(labels) / 36, atol=1e-6)
    assert torch.allclose(made[1], (torch.from_numpy(depth.astype("float32")) / 10_000).clamp(0, 1), atol=1e-5)
    coloured = Image.fromarray(labels).convert("L")
    coloured.putpalette([(7 * n) % 256 for n in range(768)])
    assert coloured.mode == "P"
    coloured.save(tmp_path / "n" / "train" / "labels" / "1.png")
    assert torch.equal(layouts.NYU(tmp_path / "n", (8, 8), value_range=(0, 1))[0][0], made)
    small, _ = layouts.NYU(tmp_path / "n", (4, 4), value_range=(0, 1), conditions=("labels",))[0]
    assert small.shape == (1, 4, 4)
    assert torch.allclose(small * 36, (small * 36).round(), atol=1e-4), "classes are not mixed"
    save(tmp_path / "n" / "train" / "edges" / "1.png", noise(8, 8))
    assert layouts.NYU(tmp_path / "n", (8, 8), conditions=("labels", "depth", "edges"))[0][0].shape == (3, 8, 8)


def test_cifar10s_own_files(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (5, 3073), dtype=np.uint8)
    where = tmp_path / "cifar-10-batches-bin"
    where.mkdir()
    for number, part in ((1, rows[:3]), (2, rows[3:])):
        part.tofile(where / f"data_batch_{number}.bin")
    for folder in (where, tmp_path):
        held = layouts.CIFAR10(folder, flip=False)
        assert len(held) == 5
        assert torch.equal(held[4], torch.from_numpy(rows[4, 1:].reshape(3, 32, 32)).float() / 127.5 - 1)
    (where / "data_batch_2.bin").write_bytes(rows[0].tobytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin is cut off"):
        layouts.CIFAR10(tmp_path)
    with pytest.raises(DataError, match="get the binary version"):
        layouts.CIFAR10(tmp_path, split="test")


def test_voxels_of_every_format(tmp_path):
    cubes = np.random.default_rng(0).random((3, 8, 8, 8)) > 0.5
    np.savez(tmp_path / "a.npz", x=np.packbits(cubes, axis=-1), y=np.arange(3))
    np.save(tmp_path / "b.npy", cubes.astype("uint8"))
    from scipy.io import savemat

    savemat(tmp_path / "c.mat", {"instance": cubes[0].astype("uint8")})
    runs = []
    for value in cubes[1].transpose(0, 2, 1).reshape(-1).astype(int):  # x z y
        if runs and runs[-1][0] == value and runs[-1][1] < 255:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    head = b"#binvox 1\ndim 8 8 8\ntranslate 0 0 0\nscale 1\ndata\n"
    (tmp_path / "d.binvox").write_bytes(head + bytes(number for run in runs for number in run))
    assert torch.equal(voxels.Voxels(tmp_path / "a.npz", packed=True)[2][0], torch.from_numpy(cubes[2]).float())
    assert torch.equal(voxels.Voxels(tmp_path / "b.npy")[1][0], torch.from_numpy(cubes[1]).float())
    assert torch.equal(voxels.Voxels(tmp_path / "c.mat")[0][0], torch.from_numpy(cubes[0]).float())
    assert torch.equal(voxels.Voxels(tmp_path / "d.binvox")[0][0], torch.from_numpy(cubes[1]).float())
    np.savez(tmp_path / "two.npz", x=cubes, y=cubes)
    with pytest.raises(DataError, match="Pass array="):
        voxels.Voxels(tmp_path / "two.npz")
    assert len(voxels.Voxels(tmp_path / "two.npz", array="y")) == 3
    np.save(tmp_path / "one.npy", cubes[0])
    assert [len(voxels.Voxels(tmp_path / "one.npy")), voxels.Voxels(tmp_path / "one.npy", size=8)[0].shape] == [
        1,
        (1, 8, 8, 8),
    ]
    with pytest.raises(
        DataError, match=r"one\.npy, row 0 cannot be read: .*its cube is 8x8x8, and 16 on each side is wanted"
    ):
        voxels.Voxels(tmp_path / "one.npy", size=16)[0]
    with pytest.raises(DataError, match=r"a\.txt is not a file of voxels"):
        (tmp_path / "a.txt").write_text("")
        voxels.Voxels(tmp_path / "a.txt")
    (tmp_path / "damaged").mkdir()
    np.save(tmp_path / "damaged" / "1.npy", cubes[0])
    (tmp_path / "damaged" / "2.NPZ").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2\.NPZ cannot be read"):
        voxels.Voxels(tmp_path / "damaged")
    assert len(voxels.Voxels(tmp_path / "damaged", on_error="skip")) == 1
    (tmp_path / "e.binvox").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"e\.binvox.*no binvox file"):
        voxels.Voxels(tmp_path / "e.binvox")[0]


def test_datasets_are_drawn_in_an_order_that_resumes():
    squares = S.Mapped(list(range(10)), lambda number: (torch.tensor(number), torch.tensor(number**2)))
    one, two = Batches(squares, seed=3), Batches(squares, seed=3)
    drawn = [one.next(4) for _ in range(5)]
    assert all(torch.equal(b, a**2) for a, b in drawn)
    assert sorted(torch.cat([a for a, _ in drawn])[:10].tolist()) == list(range(10))
    two.restore([12, 3])
    assert torch.equal(two.next(4)[0], drawn[3][0])
    with pytest.raises(SettingError, match="has no item"):
        Batches(S.Mapped([], None))


def test_names_are_paths_within_the_folders_and_ends_are_ends(tmp_path):
    for name in ("a/1", "b/1", "b/2"):
        save(tmp_path / "in" / f"{name}.png", noise(4, 4, 3, seed=len(name)))
        save(tmp_path / "out" / f"{name}.png", noise(4, 4, 3))
    pairs = S.PairedFolders(tmp_path / "in", tmp_path / "out")
    assert len(pairs) == 3
    assert all(a.relative_to(tmp_path / "in") == b.relative_to(tmp_path / "out") for a, b in pairs.keys)
    with pytest.raises(DataError, match="go by one name, '1'"):
        S.PairedFolders(tmp_path / "in", tmp_path / "out", match=r"^(\d)")
    assert len(list(pairs)) == 3, "iterating ends"


def test_photographs_stand_upright_and_sixteen_bits_are_read(tmp_path):
    image = Image.fromarray(noise(4, 6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    assert S.picture(tmp_path / "a.png").shape == (3, 6, 4)


def test_items_of_several_parts_reach_d_as_arguments():
    data = S.Mapped(list(range(4)), lambda i: (torch.zeros(2), i))
    assert isinstance(Batches(data).next(2), tuple)


def test_pictures_of_torchvisions_and_hugging_faces_datasets():
    from PIL import Image

    def check(data, first):
        assert data[0].shape == (3, 8, 8)
        assert torch.equal(data[0], S.spanned(S.resized(S.pixels_of(first), 8), (-1.0, 1.0)))
        assert Batches(data, 0).next(3).shape == (3, 3, 8, 8)

    pil = [Image.new("RGB", (9, 12), (40 * i, 255 - 40 * i, 7)) for i in range(4)]
    check(S.Pictures(pil, size=8), pil[0])
    with pytest.raises(DataError, match="3 cannot be read"):
        S.Pictures([*pil[:3], None], size=8)[3]
    vision = pytest.importorskip("torchvision")
    fake = vision.datasets.FakeData(5, (3, 16, 16))
    check(S.Pictures(fake, 0, size=8), fake[0][0])
    hub = pytest.importorskip("datasets")
    features = hub.Features({"image": hub.Image(), "label": hub.Value("int64")})
    rows = hub.Dataset.from_dict({"image": pil, "label": [0, 1, 2, 3]}, features=features)
    check(S.Pictures(rows, "image", size=8), pil[0])


def test_hidden_files_are_passed_over_and_linked_folders_followed_once(tmp_path):
    for folder in ("p", "p/.ipynb_checkpoints", "p/__MACOSX", "q"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / f"{folder[-1]}.png")
    (tmp_path / "p" / "._p.png").write_bytes(b"\0\5\x16\7")
    assert len(S.Images(tmp_path / "p", 8)) == 1
    (tmp_path / "q" / "linked").symlink_to(tmp_path / "p", target_is_directory=True)
    (tmp_path / "q" / "again").symlink_to(tmp_path / "p", target_is_directory=True)
    (tmp_path / "p" / "round").symlink_to(tmp_path / "q", target_is_directory=True)
    assert len(S.Images(tmp_path / "q", 8)) == 2, "q's own and p's, once"


def test_floats_and_integers_are_scaled_by_a_rule_or_refused_by_name(tmp_path):
    values = np.random.default_rng(0).uniform(0, 1, (16, 16)).astype("float32")
    for folder in ("unit", "far", "whole"):
        (tmp_path / folder).mkdir()
    Image.fromarray(values).save(tmp_path / "unit" / "a.tif")
    Image.fromarray(values * 255).save(tmp_path / "far" / "a.tif")
    Image.fromarray((values * 255).astype("int32")).save(tmp_path / "whole" / "a.tif")
    read = S.Images(tmp_path / "unit", 16)[0]
    torch.testing.assert_close(read[0], torch.from_numpy(values) * 2 - 1, rtol=0, atol=1e-5)
    for folder, says in (("far", r"floats from .* to .*, and floats are read in 0 to 1"), ("whole", "32-bit integers")):
        with pytest.raises(DataError, match=rf"a\.tif.*{says}"):
            S.Images(tmp_path / folder, 16)[0]
