"""What the interactive page shows, without a browser."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from digits import FOLDER, loaded, pair
from fbwrap.adapters.zero_critic import ZeroCritic
from helpers import stir
from torch import nn
from zoo import Deconv, patch

import fbwrap
from fbwrap import plots
from fbwrap.app.studio import Setting, Studio
from fbwrap.errors import CriticError, SettingError


@pytest.fixture
def studio():
    return Studio(loaded(), "examples/digits/head")


def latents(n, seed):
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


def test_a_view_is_what_the_loop_makes(studio):
    view = studio.view(Setting(seed=3, samples=2, strength=0.7, links=(1.0, 0.5), steps=2))
    loop = studio.loop
    with torch.no_grad(), loop.settings(strength={0: 1.0, 1: 0.5}, steps=2):
        loop.strength = 0.7
        wanted = loop(latents(2, 3))
    first = plots.unit(wanted, (-1, 1))[0, 0].mul(255).round().byte().numpy()
    scale = (view.feedback.shape[0] - 8) // 8
    assert (view.feedback[4:-4:scale, 4 : 4 + 8 * scale : scale, 0] == first).all()
    assert view.base.shape == view.feedback.shape == view.difference.shape
    assert (view.base != view.feedback).any()
    assert [told.split(":")[0] for _, told in view.responses] == ["t = 0", "t = 1", "t = 2"]
    assert (loop.strength, loop.steps) == (1.0, 1), "as it was"


def test_strength_zero_and_no_steps_change_nothing(studio):
    for setting in (Setting(strength=0.0), Setting(steps=0), Setting(links=(0.0, 0.0))):
        view = studio.view(setting)
        assert (view.base == view.feedback).all()
    assert not (studio.view(Setting(seed=1)).base == studio.view(Setting(seed=2)).base).all()


def test_a_mask_lets_corrections_act_there_alone(studio):
    mask = np.zeros((100, 100))
    mask[:, :50] = 1
    everywhere, left = studio.view(Setting(samples=1)), studio.view(Setting(samples=1, mask=mask))
    nowhere = studio.view(Setting(samples=1, mask=np.zeros((100, 100))))
    assert (nowhere.base == nowhere.feedback).all()
    far = slice(-everywhere.base.shape[1] // 4, None)  # what two convolutions do not reach
    assert (left.feedback[:, far] == left.base[:, far]).all()
    assert (left.feedback != left.base).any()
    assert (everywhere.feedback[:, far] != everywhere.base[:, far]).any()


def test_a_reference_is_what_d_looks_at(studio):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype("uint8")
    one, other = studio.view(Setting()), studio.view(Setting(reference=image))
    assert (one.base == other.base).all()
    assert (one.feedback != other.feedback).any()


def test_the_gallery_begins_with_the_base(studio):
    found = studio.gallery(Setting(seed=5))
    assert [name for _, name in found] == ["α = 0", "α = 0.25", "α = 0.5", "α = 0.75", "α = 1"]
    assert (found[0][0] == studio.view(Setting(seed=5)).base).all()
    assert (found[-1][0] == studio.view(Setting(seed=5)).feedback).all()


def test_the_code_makes_the_same_samples(studio, monkeypatch):
    setting = Setting(seed=9, samples=3, strength=0.6, links=(0.5, 1.5), steps=2)
    G, D = pair()
    scope = {"G": G, "D": D}
    code, shown = studio.code(setting), studio.view(setting).feedback
    monkeypatch.chdir(FOLDER)
    exec(code, scope)
    row = studio._row(plots.pictures(scope["y"], (-1.0, 1.0)).detach())
    assert (row == shown).all()
    assert "reference=reference, strength={0: loop[0].strength * mask" in studio.code(
        Setting(reference=np.zeros(1), mask=np.zeros(1))
    )


def test_the_head_that_is_exported_has_the_setting(studio, tmp_path):
    packed = studio.export(Setting(strength=0.6, links=(0.5, 1.5), steps=3))
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "head")
    again = fbwrap.from_pretrained(tmp_path / "head", *pair())
    assert (again.strength, again.steps, again[0].strength, again[1].strength) == (0.6, 3, 0.5, 1.5)
    assert (studio.loop.strength, studio.loop.steps, studio.loop[0].strength) == (1.0, 1, 1.0)


def sr_loop():
    torch.manual_seed(0)
    G = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1), nn.PixelShuffle(2))
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 3, 1, 1))
    return stir(fbwrap.attach(G.eval(), D.eval(), [("1", "1")], example=torch.rand(1, 3, 16, 16)))


def test_pictures_are_uploaded_and_too_large_ones_refused():
    studio = Studio(sr_loop(), span=(0.0, 1.0))
    assert studio.takes_pictures
    with pytest.raises(SettingError, match="upload one"):
        studio.view(Setting())
    picture = np.random.default_rng(0).integers(0, 255, (24, 40, 3)).astype("uint8")
    view = studio.view(Setting(picture=picture))
    assert view.base.shape[0] / view.base.shape[1] == 48 / 80
    assert len(view.responses) == 2
    with pytest.raises(SettingError, match="Make it smaller"):
        studio.view(Setting(picture=np.zeros((2000, 2000, 3), dtype="uint8")))
    with pytest.raises(SettingError, match="G refuses this input"):
        torch.manual_seed(0)
        odd = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 3, 9))
        loop = stir(fbwrap.attach(odd, None, [fbwrap.Link("1", "image")], example=torch.rand(1, 3, 16, 16)))
        Studio(loop).view(Setting(picture=picture[:4]))


def test_a_head_with_the_beginning_of_d_shows_no_response(tmp_path):
    torch.manual_seed(0)
    G, D = Deconv().eval(), patch().eval()
    loop = stir(fbwrap.attach(G, D, [("main.5", "0")], example=torch.randn(2, 6, 1, 1)))
    loop.use_discriminator(stir(patch().eval()))
    loop.save_pretrained(tmp_path / "head")
    studio = Studio(fbwrap.from_pretrained(tmp_path / "head", G, D))
    assert studio.view(Setting()).responses == []
    assert "only the part of D that feedback needs" in studio.why_silent()


def test_why_there_is_no_response_is_said():
    torch.manual_seed(0)
    G, z = Deconv().eval(), torch.randn(2, 6, 1, 1)
    alone = fbwrap.attach(G, None, [fbwrap.Link("main.5", "image")], example=z)
    zeros = fbwrap.attach(G, ZeroCritic([8, 4, 4]), [("main.5", "features.0")], example=z, first="zeros")
    for loop, said in ((alone, "has no D"), (zeros, "trained without D")):
        studio = Studio(loop)
        assert studio.view(Setting()).responses == []
        assert said in studio.why_silent()
    with pytest.raises(CriticError, match="trained without D"):
        _ = zeros.rollout(z).responses
    with pytest.raises(SettingError, match="trained without D"):
        fbwrap.recipes.AFL(zeros).fit(torch.rand(8, 3, 16, 16), z, steps=1)


class Named(nn.Module):
    """A conditional G with a list of latents and a label, by position or by keyword."""

    def __init__(self):
        super().__init__()
        self.style, self.label = nn.Linear(6, 8), nn.Embedding(4, 8)
        self.up = nn.ConvTranspose2d(8, 8, 8)
        self.rgb = nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, styles, label, scale=1.0):
        h = (self.style(styles[0]) + self.label(label))[:, :, None, None]
        return scale * self.rgb(self.up(h).relu())


@pytest.mark.parametrize("how", ["positional", "named"])
def test_the_code_holds_labels_lists_and_keywords(how, tmp_path, monkeypatch):
    torch.manual_seed(0)
    G, z = Named().eval(), torch.randn(2, 6)
    example = ([z], torch.zeros(2, dtype=torch.int64)) if how == "positional" else None
    example = example or {"styles": [z], "label": torch.zeros(2, dtype=torch.int64), "scale": 0.5}
    loop = stir(fbwrap.attach(G, None, [fbwrap.Link("up", "image"), fbwrap.Link("rgb", "image")], example=example))
    loop.save_pretrained(tmp_path / "head")
    studio = Studio(fbwrap.from_pretrained(tmp_path / "head", G), str(tmp_path / "head"))
    assert studio.takes_labels
    monkeypatch.chdir(tmp_path)
    setting = Setting(seed=4, samples=3, label=2, strength=0.5, links=(1.0, 0.25), steps=2)
    scope = {"G": G}
    assert str(tmp_path) not in studio.code(setting), "no path of the server"
    exec(studio.code(setting), scope)
    assert (studio._row(plots.pictures(scope["y"], (-1.0, 1.0)).detach()) == studio.view(setting).feedback).all()


def test_the_code_says_every_link_even_where_all_are_one(studio):
    studio.loop[0].strength = 0.5
    code = studio.code(Setting(links=(1.0, 1.0)))
    assert "loop[0].strength = 1 " in code
    assert "loop[1].strength = 1 " in code


def test_exports_go_with_the_studio(studio):
    import gc

    packed = studio.export(Setting(links=(1.0, 1.0)))
    assert packed.exists()
    folder = packed.parent.parent
    del studio.__dict__["_exports"]
    gc.collect()
    assert not folder.exists()


def test_grey_and_large_references():
    studio = Studio(sr_loop(), span=(0.0, 1.0))
    picture = np.zeros((16, 16, 3), dtype="uint8")
    grey = np.random.default_rng(0).integers(0, 255, (9, 9)).astype("uint8")
    assert (studio.view(Setting(picture=picture, reference=grey)).feedback >= 0).all()
    with pytest.raises(SettingError, match="Make it smaller"):
        studio.view(Setting(picture=picture, reference=np.zeros((2000, 2000, 3), dtype="uint8")))


def test_the_page_takes_a_heads_own_strengths_and_steps(studio):
    pytest.importorskip("gradio")
    from fbwrap.app.page import build

    studio.loop.strength, studio.loop.steps, studio.loop[0].strength = 3.0, 9, -0.5
    held = [part["props"] for part in build(studio).config["components"] if part["type"] == "slider"]
    assert {props["value"] for props in held} >= {3.0, 9, -0.5}
    assert all(props["minimum"] <= props["value"] <= props["maximum"] for props in held)


def test_samplers_on_the_page(studio):
    from fbwrap.samplers import TopK

    setting = Setting(seed=3, samples=2, strength=0.5, steps=2)
    made, told = studio.sampled("topk", setting)
    with torch.no_grad(), studio.loop.settings(strength=0.5, steps=2):
        wanted = TopK(studio.loop, of=4, seed=3).refine(latents(2, 3))
    assert (made == studio._row(plots.pictures(wanted, (-1, 1)))).all()
    assert "calls of G a sample" in told
    assert (studio.loop.strength, studio.loop.steps) == (1.0, 1), "as it was"
    assert set(studio.samplers()) == {"drs", "mhgan", "topk", "ddls", "dgflow", "dot", "collaborative"}
    with pytest.raises(SettingError, match="Choose a sampler"):
        studio.sampled(None, setting)
    assert Studio(sr_loop()).samplers() in ([], ["collaborative"])


def test_the_space_builds_its_page(monkeypatch):
    """examples/space: what a Space would start, without starting it."""
    import importlib.util

    gr = pytest.importorskip("gradio")
    monkeypatch.setenv("FBWRAP_HEAD", "examples/digits/head")
    monkeypatch.chdir(Path(__file__).parent.parent)
    spec = importlib.util.spec_from_file_location("space", "examples/space/app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.page(), gr.Blocks)


def test_differences_have_one_scale_in_all_settings(studio):
    """A weak correction is paler than a strong one."""
    colours = [studio.view(Setting(strength=alpha, links=(1.0, 1.0))).difference for alpha in (0.0, 0.25, 1.0)]
    far = [float(np.abs(c.astype(float) - 255).max()) for c in colours]
    assert far[0] < far[1] < far[2]
    assert studio.full_colour == 0.25 * (studio.span[1] - studio.span[0])


def test_classes_by_name_by_number_or_not_known():
    from zoo import LabelCritic

    class G(nn.Module):
        def __init__(self):
            super().__init__()
            self.names, self.last = nn.Embedding(3, 4), nn.ConvTranspose2d(4, 1, 8)

        def forward(self, z, y):
            return self.last((z + self.names(y))[..., None, None]).tanh()

    inputs = (torch.randn(2, 4), torch.tensor([0, 1]))
    with fbwrap.attach(G().eval(), LabelCritic(), None, example=inputs, critic_input="output_and_label") as loop:
        assert Studio(loop).classes() == []
        loop.latents = "normal,labels:0:2"
        assert Studio(loop).classes() == [("0", 0), ("1", 1), ("2", 2)]
        loop.facts.trained_on["class_names"] = ["cat", "dog", "owl"]
        assert Studio(loop).classes() == [("0: cat", 0), ("1: dog", 1), ("2: owl", 2)]
