"""Recognition: adapters as plugins, what a broken one does, and everything that can be asked of them."""

import logging
from importlib.metadata import EntryPoint

import pytest
import torch
from lookalikes import latent, translate
from small import Tiny, tiny_critic
from torch import nn

import fbwrap
from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network
from fbwrap.errors import ExampleError, SettingError
from fbwrap.recognition import plugins


def tiny_adapter(**more):
    options = {"example": lambda net: net.noise(2, 4, 1, 1), "targets": ("grow",), **more}
    family = GeneratorFamily("Tiny", layers={"grow": "ConvTranspose2d", "paint": ""}, **options)
    return Adapter("tiny", "Nobody, Nowhere, 2026", (family,), (CriticFamily("C", layers={"0": "Conv2d"}),))


@pytest.fixture
def with_plugins(monkeypatch):
    """Other entry points than those installed; what they load to."""
    objects = {}

    def use(**named):
        objects.update(named)
        points = [EntryPoint(name, f"test_plugins_objects:{name}", plugins.GROUP) for name in named]
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        plugins.forget()

    def load(self):
        found = objects[self.name]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(EntryPoint, "load", load)
    yield use
    monkeypatch.undo()
    plugins.forget()


def test_somebody_elses_plugin_is_as_good_as_ours(with_plugins):
    with_plugins(mine=tiny_adapter(module={"kind": "light"}, steps=2))
    loop = fbwrap.attach(Tiny(), tiny_critic())
    assert [str(c) for c in loop.connections] == ["grow <- light <- 1"]
    assert loop.steps == 2
    assert loop.facts.adapter["citations"] == ["Nobody, Nowhere, 2026"]
    assert "G: tiny: Tiny" in str(loop.plan)


def test_broken_plugins_are_reported_and_passed_over(with_plugins, caplog):
    caplog.set_level(logging.WARNING, "fbwrap")
    with_plugins(
        gone=ImportError("no module named gone"), wrong=3, good=tiny_adapter(), twin=tiny_adapter()
    )  # fmt: skip
    seen = fbwrap.explain(Tiny(), tiny_critic())
    assert str(seen.generator) == "tiny: Tiny"
    assert set(seen.broken) == {"gone", "wrong", "twin"}
    assert "ImportError: no module named gone" in str(seen)
    assert "is int, not a fbwrap.adapter.Adapter" in str(seen)
    assert sum("is skipped" in record.message for record in caplog.records) == 3


@pytest.mark.parametrize("what", ["example", "targets", "critic_input"])
def test_an_adapter_that_fails_is_reported_and_passed_over(with_plugins, caplog, what):
    def fails(*networks):
        raise KeyError("oops")

    adapter = tiny_adapter(**({what: fails} if what != "critic_input" else {}))
    if what == "critic_input":
        critic = CriticFamily("C", layers={"0": "Conv2d"}, critic_input=fails)
        adapter = Adapter("tiny", "", adapter.generators, (critic,))
    with_plugins(mine=adapter)
    if what == "example":
        with pytest.raises(ExampleError, match="needs example=: inputs of G"):
            fbwrap.attach(Tiny(), tiny_critic())
    else:
        assert len(fbwrap.attach(Tiny(), tiny_critic())) == 1
    assert any("failed to give its" in record.message and "oops" in record.message for record in caplog.records)


def test_adapter_by_name_by_object_and_not_at_all():
    G, D = latent.dcgan_g(), latent.DcganD()
    assert len(fbwrap.attach(G, D, adapter="dcgan")) == 4
    with pytest.raises(SettingError, match="does not know these networks"):
        fbwrap.attach(G, D, adapter="audio")
    with pytest.raises(SettingError, match=r"There is no adapter 'nonsense'\. There are: .*dcgan"):
        fbwrap.attach(G, D, adapter="nonsense")
    with pytest.raises(ExampleError, match="needs example="):
        fbwrap.attach(G, D, adapter=None)
    assert len(fbwrap.attach(Tiny(), tiny_critic(), adapter=tiny_adapter())) == 1


def test_what_the_user_says_comes_first():
    G, D = translate.ResnetGenerator(), translate.NLayerDiscriminator(inside=6)
    loop = fbwrap.attach(
        G, D, ["model.12"], example=torch.zeros(1, 3, 32, 32), critic_input="output_and_condition", module="light"
    )
    assert loop.facts.critic_input == "output_and_condition"
    assert str(loop.connections[0]).startswith("model.12 <- light")
    assert loop.steps == 1
    assert fbwrap.attach(G, D, steps=5).steps == 5


def test_placements():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    assert len(fbwrap.attach(G, D)) == 1
    assert len(fbwrap.attach(G, D, "auto:every resolution")) == 3
    with pytest.raises(SettingError, match="one of: 'auto', 'auto:every resolution'"):
        fbwrap.attach(G, D, "auto:nonsense")
    with pytest.raises(SettingError, match="one of: 'auto'"):
        fbwrap.attach(Tiny(), tiny_critic(), "auto:x", example=torch.zeros(1, 4, 1, 1))


def test_the_family_that_asks_for_most_is_taken():
    net = translate.NLayerDiscriminator()
    seen = fbwrap.explain(None, net)
    matching = [f"{adapter}: {family}" for _, adapter, family, verdict in seen.verdicts if verdict.matches]
    assert set(matching) == {"dcgan: strided convolutions", "pix2pix: NLayerDiscriminator"}
    assert str(seen.discriminator) == "pix2pix: NLayerDiscriminator"
    assert str(seen).startswith("generator: none")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layers": {"missing": ""}}, "no layer missing"),
        ({"layers": {"grow": "Linear"}}, "grow is ConvTranspose2d, not Linear"),
        ({"shapes": {"grow": (4, 9, None, None)}}, r"grow has shape \(4, 8, 4, 4\), not \(4, 9, \*, \*\)"),
        ({"lacks": ("pa*",)}, "it has paint"),
        ({"types": "^Linear"}, "another order: ConvTranspose2d ConvTranspose2d"),
        ({}, "nothing is asked for"),
    ],
)
def test_reasons(change, reason):
    verdict = GeneratorFamily("x", **change).verdict(Network(Tiny()))
    assert not verdict.matches
    assert __import__("re").search(reason, str(verdict))


def test_wrappers_norms_and_subclasses_are_seen_through():
    class Mine(nn.Conv2d):
        pass

    net = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        nn.utils.parametrizations.weight_norm(Mine(4, 5, 3)),
        nn.utils.spectral_norm(nn.Linear(5, 6)),
    )
    seen = Network(nn.DataParallel(net))
    assert seen.types == "Conv2d Conv2d Linear"
    assert [seen.shape(name) for name in seen.leaves] == [(4, 3, 3, 3), (5, 4, 3, 3), (6, 5)]
    assert seen.kinds("1")[:2] == ["Mine", "Conv2d"]


def test_critics_by_name_need_a_maker_and_a_range():
    G = Tiny()
    with pytest.raises(SettingError, match=r"discriminator='resnet18': pass a torch\.nn\.Module"):
        fbwrap.attach(G, "resnet18", example=torch.zeros(1, 4, 1, 1))
    with pytest.raises(SettingError, match=r"needs to know the range.*value_range=\(-1, 1\)"):
        fbwrap.attach(G, "timm:resnet18", example=torch.zeros(1, 4, 1, 1))
    with pytest.raises(SettingError, match=r"generator='nonsense': pass a torch\.nn\.Module"):
        fbwrap.attach("nonsense", None)


def test_the_example_script_runs(capsys):
    import runpy
    from pathlib import Path

    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "by_name.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "activation#1 <- dual <- activation#0" in printed
    assert all(float(line.rsplit(" ", 1)[1]) > 0 for line in printed.splitlines() if "moved by" in line)


def test_contributings_adapter_works_as_it_stands():
    import re
    from pathlib import Path

    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    scope = {"nn": nn, "torch": torch}
    for block in re.findall(r"<!-- test: \w+ -->\n```python\n(.*?)```", text, re.DOTALL):
        exec(block, scope)
    loop = fbwrap.attach(scope["Painter"](), scope["Judge"](), adapter=scope["ADAPTER"])
    assert [str(c) for c in loop.connections] == ["stages.0 <- dual <- look.3", "stages.1 <- dual <- look.1"]
    z, label = torch.randn(3, 64), torch.tensor([1, 2, 3])
    assert loop.rollout(z, label).responses[0].shape == (3, 1)


def test_what_an_adapter_filled_in_is_in_the_head(tmp_path):
    """Loading asks no adapter: what was known, or switched off, at attach holds."""
    G, D = latent.dcgan_g(size=32), translate.NLayerDiscriminator()
    z = torch.randn(2, 8, 1, 1)
    loop = fbwrap.attach(G, D, [("main.5", "model.4")], example=z, adapter=None, response=lambda answer: answer)
    loop.note(own_response=False)
    loop.save_pretrained(tmp_path / "head")
    assert fbwrap.from_pretrained(tmp_path / "head", G, D).facts.response is None


def test_a_malformed_adapter_is_refused_where_it_is_made():
    family = GeneratorFamily("x", layers={"grow": ""})
    with pytest.raises(TypeError, match="generators must be a tuple of GeneratorFamily"):
        Adapter("x", "", generators=family)
    for targets in (3, ("grow", 3)):
        adapter = Adapter("x", "", (GeneratorFamily("x", layers={"grow": ""}, targets=targets),))
        assert len(fbwrap.attach(Tiny(), tiny_critic(), example=torch.zeros(1, 4, 1, 1), adapter=adapter)) >= 1
    wrong = Adapter("x", "", critics=(CriticFamily("c", layers={"0": ""}, critic_input=lambda g, d: "nonsense"),))
    loop = fbwrap.attach(Tiny(), tiny_critic(), example=torch.zeros(1, 4, 1, 1), adapter=wrong)
    assert loop.facts.critic_input == "output"
    absent = Adapter("x", "", (GeneratorFamily("x", layers={"grow": ""}, method="nowhere"),))
    assert fbwrap.attach(Tiny(), tiny_critic(), example=torch.zeros(1, 4, 1, 1), adapter=absent).method == "forward"
