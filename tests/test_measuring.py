"""``fbwrap study``, ``eval`` and ``ablate``."""

import pytest
import torch
from commandline import command

import fbwrap


@pytest.mark.parametrize(
    "name", ["strength", "modules", "controls", "switching", "variance", "steps", "fooling", "eval"]
)
def test_studies_from_the_command_line(head, name, tmp_path):
    done = command(*(["eval"] if name == "eval" else ["study", name]), *head)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head" / "studies" / f"{name}.csv").stat().st_size > 20
    assert (tmp_path / "head" / "studies" / f"{name}.png").exists()


def test_a_study_in_a_feature_space_and_wrong_ones(head, nets, tmp_path):
    from PIL import Image

    for i in range(5):
        (tmp_path / "real").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (i * 40, 0, 90)).save(tmp_path / "real" / f"{i}.png")
    done = command("study", "switching", *head, "--reference", tmp_path / "real" / "1.png")
    assert done.exit_code == 0, done.output
    assert "the reference" in done.output
    space = ["--features", "torch.nn:Flatten()", "--real", tmp_path / "real", "--size", "8"]
    done = command("eval", *head, *space)
    assert done.exit_code == 0, done.output
    assert "frechet[torch.nn:Flatten()]" in done.output
    assert "D's probability" in done.output
    done = command("study", "strength", *head, "--at", "0,0.5")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head" / "studies" / "strength.csv").read_text().count("\n") == 1 + 2 * 3
    for words, sentence in (
        (["study", "nonsense", *head], "There is no study 'nonsense'"),
        (["study", "strength", *head, "--at", "0;1"], "--at 0;1: write numbers"),
        (["study", "steps", *head, "--at", "0,1"], "--at is for the studies"),
        (["study", "steps", *head, "--reference", "x.png"], "--reference is for the study switching"),
        (["eval", *head, "--features", "inception"], "both --features and --real"),
        (["eval", *head, "--label", "1"], "--label needs --classifier"),
        (["eval", *head, "--real", "nowhere", "--features", "torch.nn:Flatten()"], "there is no such file or folder"),
        (["study", "switching", *head, "--reference", "nowhere.png"], "nowhere.png"),
        (["eval", *head, "--features", "torch.nn:Flatten()"], "both --features and --real"),
        (["eval", *head[:-3], "8xx", "--samples", "4"], "--latent '8xx'"),
        (["eval", tmp_path / "nowhere", *head[1:]], "There is no head at"),
    ):
        done = command(*words)
        assert done.exit_code == (2 if "nonsense" in words else 1), done.output
        assert sentence in done.output


def test_real_images_are_of_the_samples_size_and_of_all_classes(tmp_path):
    """The samples themselves, as a folder, are at distance zero whatever --size says; a part of it is of each class."""
    from fbwrap.app.options import InputOptions, MeasureOptions
    from fbwrap.app.study import measure_of

    y = (torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    y[20:] = y[20:].clamp(-1, -0.5)
    y = ((y + 1) * 127.5).round() / 127.5 - 1
    from PIL import Image

    for i, image in enumerate(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1)):
        path = tmp_path / "real" / "ab"[i // 20] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(path)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    measures = MeasureOptions(real=tmp_path / "real", features="pool")
    found = measure_of(InputOptions(samples=40), measures, {"features": net})(y)
    assert found["frechet[pool]"] == pytest.approx(0.0, abs=1e-6)
    assert (found["precision[pool]"], found["recall[pool]"]) == (1.0, 1.0)
    seen = []
    few = measure_of(InputOptions(samples=10), measures, {"features": lambda x: seen.append(x) or net(x)})
    few(y)
    means = seen[-1].mean((1, 2, 3))
    assert 0 < (means < -0.5).sum() < 10, "both classes"


def test_what_networks_read_is_held_against_labels_and_depths_where_they_are_known(tmp_path):
    pytest.importorskip("torchmetrics")
    import numpy as np
    from fbwrap.recipes.metrics import quality
    from PIL import Image

    from fbwrap.app.options import InputOptions, MeasureOptions
    from fbwrap.app.study import measure_of, pairs_of, truths_of
    from fbwrap.errors import DataError

    dice = np.random.default_rng(0)

    def save(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    known, root = {}, tmp_path / "city"
    for i in (2, 1):
        frame = f"val/ulm/ulm_{i}"
        known[i] = dice.integers(0, 34, (8, 16), dtype=np.uint8)
        save(root / "gtFine" / f"{frame}_gtFine_labelIds.png", known[i])
        save(root / "gtFine" / f"{frame}_gtFine_color.png", dice.integers(0, 256, (8, 16, 3), dtype=np.uint8))
        save(root / "leftImg8bit" / f"{frame}_leftImg8bit.png", dice.integers(0, 256, (8, 16, 3), dtype=np.uint8))
    text = f"cityscapes:{root}"
    given = InputOptions(pairs=text, samples=10, size=8), MeasureOptions(segmenter="roads")
    truth = truths_of(*given)["segmenter"]
    assert truth.shape == (2, 8, 16)
    named = {7: 0, 8: 1, 19: 6, 26: 13, 33: 18, 0: 255, 9: 255, 29: 255}  # road, sidewalk, light, car, bicycle, none
    for number, name in named.items():
        assert (truth[0].numpy()[known[1] == number] == name).all()

    class Roads(torch.nn.Module):
        def forward(self, y):  # at half the size, as many networks answer
            return torch.eye(19)[0].view(1, 19, 1, 1).expand(len(y), -1, 4, 8)

    y, targets = pairs_of(text, 8, 10, (-1.0, 1.0))
    found = measure_of(*given, {"segmenter": Roads()}, targets, truths_of(*given))(y)
    half = truth[:, ::2, ::2]
    assert found["pixels[roads]"] == pytest.approx(quality.segmentation(torch.zeros_like(half), half, 19)["pixels"])
    assert truths_of(given[0], MeasureOptions()) == {}
    few = measure_of(*given, {"segmenter": torch.nn.Conv2d(3, 5, 1)}, targets, truths_of(*given))(targets)
    assert few["pixels[roads]"] == 1.0, "of other classes than the labels': what it reads in the photographs"
    (root / "gtFine" / "val" / "ulm" / "ulm_2_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match="ulm_2 has no gtFine_labelIds"):
        truths_of(*given)
    (root / "gtFine" / "val" / "ulm" / "ulm_1_gtFine_labelIds.png").unlink()
    assert truths_of(*given) == {}

    save(tmp_path / "nyu" / "val" / "rgb" / "1.png", dice.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    save(tmp_path / "nyu" / "val" / "labels" / "1.png", dice.integers(0, 37, (6, 8), dtype=np.uint8))
    far = np.full((6, 8), 4000, dtype=np.uint16)
    far[:2] = 0  # not known
    save(tmp_path / "nyu" / "val" / "depth" / "1.png", far)
    for part in ("rgb", "depth"):  # a frame without labels is no pair
        save(
            tmp_path / "nyu" / "val" / part / "0.png",
            np.full((6, 8), 9, dtype=np.uint16 if part == "depth" else np.uint8),
        )
    text = f"nyu:{tmp_path / 'nyu'}"
    y, targets = pairs_of(text, 8, 10, (-1.0, 1.0))
    assert (y.shape, targets.shape) == ((1, 2, 6, 8), (1, 3, 6, 8))

    class Five(torch.nn.Module):
        def forward(self, y):
            return torch.full((len(y), 1, 3, 4), 5.0)

    given = InputOptions(pairs=text, samples=10, size=8), MeasureOptions(depth="five")
    found = measure_of(*given, {"depth": Five()}, targets, truths_of(*given))(targets)
    assert found["rel[five]"] == pytest.approx(0.25, abs=1e-6)
    for path in (tmp_path / "nyu" / "val" / "labels").iterdir():
        path.unlink()
    (tmp_path / "nyu" / "val" / "labels").rmdir()
    assert pairs_of(text, 8, 10, (-1.0, 1.0))[0].shape == (2, 1, 6, 8)
    save(tmp_path / "nyu" / "val" / "depth" / "0.png", far.astype(np.uint8))
    with pytest.raises(DataError, match="has eight bits"):
        truths_of(*given)


def test_networks_of_torchvision_see_samples_as_imagenets_images():
    from fbwrap.app.models import as_trained

    class Spy(torch.nn.Module):
        def forward(self, x):
            return x

    x = torch.linspace(-1, 1, 2 * 12).view(2, 3, 2, 2)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(as_trained(Spy(), "timm:x", (-1.0, 1.0))(x), ((x + 1) / 2 - mean) / std)
    torch.testing.assert_close(
        as_trained(Spy(), "torchvision.models:x", (0.0, 1.0))(x[:, :1].clamp(0, 1)), (x[:, :1].clamp(0, 1) - mean) / std
    )
    assert as_trained(spy := Spy(), "nets.py:Own()", (-1.0, 1.0)) is spy


def test_eval_of_pairs_voxels_and_readers(tmp_path):
    """Image to image: nearness to the targets and what networks read; voxels: a distance and a classifier."""
    pytest.importorskip("torchmetrics")
    import numpy as np
    from helpers import stir
    from PIL import Image

    (tmp_path / "translate.py").write_text(
        "from torch import nn\n"
        "class G(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, 1, 1))\n"
        "class D(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, 1, 1))\n"
        "class Classes(nn.Conv2d):\n"
        "    def __init__(self): super().__init__(3, 5, 3, 1, 1)\n"
        "class Depth(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 1, 3, 1, 1), nn.Softplus())\n"
        "class VG(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.ConvTranspose3d(4, 4, 4), nn.ReLU(), nn.Conv3d(4, 1, 3, 1, 1))\n"
        "class VD(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv3d(1, 2, 3, 1, 1), nn.ReLU(), nn.Conv3d(2, 1, 4))\n"
        "class Kinds(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 3))\n"
    )
    spec = f"{tmp_path / 'translate.py'}:"
    from fbwrap.app.models import load_model

    dice = np.random.default_rng(0)
    (tmp_path / "val").mkdir()
    for i in range(4):
        pixels = dice.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / f"{i}.png")
    np.save(tmp_path / "cubes.npy", dice.integers(0, 2, (9, 4, 4, 4), dtype=np.uint8))
    torch.manual_seed(0)
    heads = {}
    for name, g, d, link, example in (
        ("image", "G()", "D()", ("1", "1"), torch.zeros(1, 3, 32, 32)),
        ("voxel", "VG()", "VD()", ("1", "1"), torch.zeros(2, 4, 1, 1, 1)),
    ):
        G, D = load_model(spec + g), load_model(spec + d)
        torch.save(G.state_dict(), tmp_path / f"{name}_g.pth")
        torch.save(D.state_dict(), tmp_path / f"{name}_d.pth")
        stir(fbwrap.attach(G, D, [link], example=example)).save_pretrained(tmp_path / name)
        heads[name] = [tmp_path / name, "-g", spec + g, "-d", spec + d, "--weights", tmp_path / f"{name}_g.pth",
                       "--critic-weights", tmp_path / f"{name}_d.pth"]  # fmt: skip
    pairs = ["--pairs", f"right:{tmp_path / 'val'}", "--size", "32"]
    readers = ["--segmenter", spec + "Classes()", "--depth", spec + "Depth()"]
    done = command("eval", *heads["image"], *pairs, *readers)
    assert done.exit_code == 0, done.output
    for column in ("rmse", "ssim", f"IoU[{spec}Classes()]", f"δ1[{spec}Depth()]"):
        assert column in done.output
    from fbwrap.app.study import pairs_of

    for span in ((-1.0, 1.0), (0.0, 1.0)):
        targets = pairs_of(f"right:{tmp_path / 'val'}", 32, 4, span)[1]
        assert abs(float(targets.min()) - span[0]) < 0.1, "noise: the whole range"
    done = command("study", "response", *heads["image"], *pairs)
    assert done.exit_code == 0, done.output
    cubes = ["--latent", "4x1x1x1", "--samples", "8", "--real", tmp_path / "cubes.npy"]
    flat = ["--features", "torch.nn:Flatten()", "--classifier", spec + "Kinds()", "--label", "1"]
    done = command("eval", *heads["voxel"], *cubes, *flat)
    assert done.exit_code == 0, done.output
    for column in ("frechet[torch.nn:Flatten()]", f"accuracy[{spec}Kinds()]", f"inception score[{spec}Kinds()]"):
        assert column in done.output
    for words, sentence in (
        (["eval", *heads["image"]], "Pass --pairs KIND:PATH"),
        (["eval", *heads["image"], "--pairs", "up:x"], "KIND one of left"),
        (["eval", *heads["image"], "--pairs", "folders:x"], "write two folders"),
        (["eval", *heads["voxel"], *cubes[:4], *readers[:2]], "--segmenter needs --pairs"),
        (["eval", *heads["voxel"], *cubes[:4], "--lpips"], "--lpips needs --pairs"),
        (["study", "variance", *heads["image"], *pairs], "scales G's latents"),
        (["ablate", "cityscapes_fal", "--smoke"], "pass --pairs"),
        (["ablate", "swiss_roll", "--smoke", *pairs[:2]], "leave out --pairs"),
        (["study", "response", *heads["voxel"], *cubes[:4]], "there is no map to show"),
    ):
        done = command(*words)
        assert done.exit_code == 1, done.output
        assert sentence in done.output, done.output


def test_ablate_from_the_command_line(tmp_path):
    words = ["ablate", "swiss_roll", "--smoke", "--samples", "8", "--out", tmp_path, "--variant", "no feedback"]
    done = command(*words, "--variant", "basic", "--variant", "image only")
    assert done.exit_code == 0, done.output
    assert "no feedback" in done.output
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 4
    done = command("ablate", "nothing")
    assert done.exit_code == 2
    assert "There is no experiment 'nothing'" in done.output


def test_numbers_of_other_weights_do_not_go_into_a_card(head, tmp_path, caplog):
    from fbwrap.app.sharing import _of_this_head

    assert command("eval", *head).exit_code == 0
    folder = tmp_path / "head"
    assert _of_this_head(folder) == ["eval"]
    (folder / "feedback.safetensors").write_bytes(b"others")
    assert _of_this_head(folder) == []
    assert "with other weights" in caplog.text


def test_the_study_of_samplers_from_the_command_line(head, tmp_path):
    networks = head[: head.index("--latent")]
    words = [
        "study",
        "samplers",
        *networks,
        "--samples",
        "8",
        "--only",
        "topk,dot",
        "--loss",
        "bce",
        "--latents",
        "normal",
    ]
    done = command(*words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head" / "studies" / "samplers.png").exists()
    for more, sentence in (
        (["study", "samplers", *head, "--loss", "bce"], "Leave out --latent"),
        (["study", "strength", *head, "--only", "drs"], "are for the study samplers"),
        ([*words, "--only", "best"], "There is no sampler 'best'"),
        ([*words, "--calibrate-on", tmp_path / "nothing"], "no such folder"),
    ):
        done = command(*more)
        assert done.exit_code == 1, done.output
        assert sentence in " ".join(done.output.split()), done.output


def test_the_study_of_samplers_draws_the_class_that_is_asked_for(monkeypatch):
    from fbwrap.app import study
    from fbwrap.app.options import InputOptions, StudyOptions

    seen = {}
    monkeypatch.setattr(study, "sampler_study", lambda *_, **how: seen.update(how))
    study.samplers_of(None, None, InputOptions(), StudyOptions(), label=3)
    assert seen["label"] == 3


def test_the_class_that_samplers_draw_needs_no_classifier(head):
    networks = head[: head.index("--latent")]
    done = command("study", "samplers", *networks, "--samples", 4, "--only", "topk", "--loss", "bce", "--label", 1)
    assert done.exit_code == 0, done.output
