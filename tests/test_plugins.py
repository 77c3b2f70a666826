"""Recognition: adapters as plugins, what a broken one does, and everything that can be asked of them."""

import copy
import logging
import pickle
from importlib.metadata import EntryPoint

import pytest
import torch
from lookalikes import latent, translate, voxel
from torch import nn

import fbwrap
from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network
from fbwrap.errors import ExampleError, LayerNotCalledError, SettingError
from fbwrap.recognition import plugins


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.grow, self.paint = nn.ConvTranspose2d(4, 8, 4), nn.ConvTranspose2d(8, 3, 2, 2)

    def forward(self, z):
        return self.paint(torch.relu(self.grow(z)))


def tiny_critic():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 1, 3))


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
    assert sum("passed over" in record.message for record in caplog.records) == 3


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
        with pytest.raises(ExampleError, match="no adapter knows them"):
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
    with pytest.raises(SettingError, match="adapters know 'auto:every resolution'"):
        fbwrap.attach(G, D, "auto:nonsense")
    with pytest.raises(SettingError, match="adapters know none"):
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


# -- what the adapters need of the core ----------------------------------------------------------------
class Codec(nn.Module):
    """A model whose generator is a method."""

    def __init__(self):
        super().__init__()
        self.encoder, self.mid, self.out = (
            nn.Conv2d(3, 4, 4, 4),
            nn.Conv2d(4, 8, 3, 1, 1),
            nn.ConvTranspose2d(8, 3, 4, 4),
        )

    def decode(self, z, slices=1):
        return {"sample": torch.cat([self.out(torch.relu(self.mid(part))) for part in z.chunk(slices)])}

    def forward(self, x):
        return self.decode(self.encoder(x))["sample"]


def test_the_generator_may_be_a_method():
    from helpers import stir

    torch.manual_seed(0)
    net, D = Codec(), tiny_critic()
    z, x = torch.randn(2, 4, 4, 4), torch.randn(2, 3, 16, 16)
    loop = stir(fbwrap.attach(net, D, [("mid", "1")], example=z, method="decode"))
    plain = net.decode(z)["sample"]
    y = loop(z)["sample"]
    assert not torch.equal(y, plain)
    with loop.installed():
        assert torch.equal(net.decode(z)["sample"], y)
        assert torch.equal(net(x), loop(net.encoder(x))["sample"]), "its own forward decodes with feedback"
        assert torch.equal(torch.utils._pytree.tree_leaves(net.decode(z=z))[0], y)
    assert torch.equal(net.decode(z)["sample"], plain)
    assert "decode" not in vars(net)
    with pytest.raises(LayerNotCalledError, match=r"called mid 2 times in this pass.*slices or tiles"):
        loop(z, slices=2)
    with pytest.raises(SettingError, match="has no such method"):
        fbwrap.attach(net, D, example=z, method="nonsense")
    with pytest.raises(ExampleError, match="in its method 'decode'"):
        fbwrap.attach(net, D, example=x, method="decode")


def test_install_is_one_line_and_detach_undoes_it():
    from helpers import stir

    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    loop = stir(fbwrap.attach(G.eval(), D))
    z = torch.randn(2, 8, 1, 1)
    plain, y = G(z), loop(z)
    assert loop.install() is loop
    loop.install()
    assert torch.equal(G(z), y)
    loop.uninstall()
    assert torch.equal(G(z), plain)
    loop.install()
    assert torch.equal(G(z), y), "installed again"
    copied = copy.deepcopy(loop)
    pickle.loads(pickle.dumps(loop))
    assert torch.equal(copied(z), y)
    with loop.installed():
        loop.uninstall()
        assert torch.equal(G(z), y), "the block still holds"
        loop.install()
    assert torch.equal(G(z), y)
    loop.detach()
    assert torch.equal(G(z), plain)
    assert "forward" not in vars(G)


def test_generators_that_call_forward_themselves():
    from helpers import stir

    G, D = latent.MimicryG().eval(), latent.MimicryD().eval()
    with stir(fbwrap.attach(G, D)).installed() as loop:
        torch.manual_seed(0)
        mine = G.generate_images(3)
        torch.manual_seed(0)
        assert torch.equal(mine, loop(torch.randn(3, G.nz)))


def test_pythons_random_numbers_are_the_same_at_every_step():
    """StyleGAN2 mixes the styles of two latents at a place that Python's ``random`` draws."""
    import random

    G, D = latent.StyleGan2G().eval(), latent.StyleGan2D().eval()
    pair = [torch.randn(2, 8), torch.randn(2, 8)]
    loop = fbwrap.attach(G, D, steps=3)
    for seed in range(6):
        results = []
        for run in (G, loop):
            torch.manual_seed(seed)
            random.seed(seed)
            with torch.no_grad():
                results.append(run([p.clone() for p in pair])[0])
        assert torch.equal(*results)
        drawn = random.random()
        random.seed(seed)
        torch.manual_seed(seed)
        G([p.clone() for p in pair])
        assert drawn == random.random(), "afterwards it is where one call of G leaves it"


def test_numpys_random_numbers_too():
    np = pytest.importorskip("numpy")

    class Jitter(nn.Sequential):
        def forward(self, x):
            return super().forward(x + float(np.random.randn()))

    G = Jitter(nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 3, 3, 1, 1))
    loop = fbwrap.attach(G, tiny_critic(), [("1", "1")], example=torch.zeros(1, 3, 8, 8), steps=2)
    x = torch.randn(1, 3, 8, 8)
    np.random.seed(3)
    y = loop(x)
    np.random.seed(3)
    assert torch.equal(y, G(x))


def test_a_squeezed_channel_axis_is_given_back():
    G, D = voxel.VoxelG(64, squeeze=True).eval(), voxel.VoxelD(64, squeeze=True).eval()
    loop = fbwrap.attach(G, D)
    image = loop.connections[0].sources[0].form
    assert (image.channels, image.spatial) == (1, (64, 64, 64))
    assert loop(torch.randn(3, 20)).shape == (3, 64, 64, 64)


def test_layouts_are_not_guessed_from_vectors_nor_lost_in_subclasses():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Linear(5, 16)  # as wide as the map that it scales

        def forward(self, x, y):
            return x * (1 + self.scale(y)[:, :, None, None])

    class Own(nn.Conv2d):
        pass

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = Own(3, 32, 3, padding=1), Norm(), Own(16, 3, 1)
            self.c = Own(32, 16, 1)

        def forward(self, x, y):
            return self.b(self.norm(self.c(self.a(x)), y))

    D = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    example = (torch.randn(2, 3, 16, 16), torch.randn(2, 5))
    loop = fbwrap.attach(Net(), D, [("norm", "0"), ("a", "0")], example=example)
    forms = {str(c.target): c.form for c in loop.connections}
    assert all(form.layout == "channels_first" for form in forms.values())
    assert (forms["norm"].channels, forms["a"].channels) == (16, 32)


def test_a_head_survives_remove_weight_norm(tmp_path):
    """HiFi-GAN's inference script removes weight norm; the weights are the same."""
    from helpers import stir
    from lookalikes import audio

    torch.manual_seed(0)
    G, D = audio.HifiG().eval(), audio.PeriodD(3).eval()
    loop = stir(fbwrap.attach(G, D), 0.1)
    mel = torch.randn(2, 10, 12)
    y = loop(mel)
    loop.save_pretrained(tmp_path / "head")
    loop.detach()
    G.remove_weight_norm()
    again = fbwrap.from_pretrained(tmp_path / "head", G, D)
    torch.testing.assert_close(again(mel), y)
    with torch.no_grad():
        G.conv_pre.weight.add_(0.1)
    with pytest.raises(fbwrap.errors.HeadError, match="weights"):
        fbwrap.from_pretrained(tmp_path / "head", G, D)


def test_a_d_that_cannot_go_on_is_noted_in_the_plan():
    loop = fbwrap.attach(latent.BigGanG(), latent.BigGanD())
    assert "D refuses the sample behind its last tap, so it has no response" in str(loop.plan)


def test_critics_by_name_need_a_maker_and_a_range():
    G = Tiny()
    with pytest.raises(SettingError, match=r"discriminator='resnet18': pass a torch\.nn\.Module"):
        fbwrap.attach(G, "resnet18", example=torch.zeros(1, 4, 1, 1))
    with pytest.raises(SettingError, match=r"needs to know the range.*value_range=\(-1, 1\)"):
        fbwrap.attach(G, "timm:resnet18", example=torch.zeros(1, 4, 1, 1))
    with pytest.raises(SettingError, match=r"generator='nonsense': pass a torch\.nn\.Module"):
        fbwrap.attach("nonsense", None)


def test_somebodys_optimizer_trains_the_head():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    G.main[0].weight.requires_grad_(False)
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam([{"params": G.parameters()}, {"params": other.parameters(), "lr": 1e-5}], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    before = [(name, value.clone()) for name, value in G.state_dict().items()]
    loop = fbwrap.attach(G, D).install().train_with(optimizer)
    start = [p.clone() for p in loop.parameters()]
    assert optimizer.param_groups[1]["params"] == list(other.parameters()), "the others stay"
    for _ in range(2):
        optimizer.zero_grad()
        G(torch.randn(3, 8, 1, 1)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 2.5e-4
    assert any(not torch.equal(a, b) for a, b in zip(start, loop.parameters(), strict=True))
    assert all(torch.equal(value, G.state_dict()[name]) for name, value in before), "G's statistics stay too"
    assert G.training
    loop.detach()
    assert [p.requires_grad for p in G.parameters()][:3] == [False, True, True]
    with pytest.raises(SettingError, match="holds no parameter of the loop's generator"):
        fbwrap.attach(G, D).train_with(torch.optim.SGD(other.parameters(), 0.1))


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


# -- what a review found ------------------------------------------------------------------------------
def test_a_strangers_head_calls_no_method_of_its_choice(tmp_path):
    import json

    from fbwrap.errors import HeadError

    net, D = Codec(), tiny_critic()
    net.save_pretrained = lambda where: (tmp_path / "written").write_text("x")
    loop = fbwrap.attach(net, D, [("mid", "1")], example=torch.randn(1, 4, 4, 4), method="decode")
    loop.save_pretrained(tmp_path / "head")
    path = tmp_path / "head" / "config.json"
    with pytest.raises(HeadError, match=r"no adapter knows this G so.*method='decode'"):
        fbwrap.from_pretrained(tmp_path / "head", net, D)
    assert fbwrap.from_pretrained(tmp_path / "head", net, D, method="decode").method == "decode"
    for name in ("save_pretrained", "double", "__init__", "requires_grad_"):
        config = json.loads(path.read_text())
        config |= {"method": name, "example": [[{"value": str(tmp_path)}], {"mapping": {}}]}
        path.write_text(json.dumps(config))
        before = [p.requires_grad for p in net.parameters()]
        with pytest.raises(HeadError):
            fbwrap.from_pretrained(tmp_path / "head", net, D)
        assert [p.requires_grad for p in net.parameters()] == before
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not (tmp_path / "written").exists()
    with pytest.raises(SettingError, match="belongs to every module"):
        fbwrap.attach(net, D, example=torch.randn(1, 4, 4, 4), method="double")


def test_a_response_path_ends_at_a_tensor():
    from fbwrap.errors import CriticError

    G, D = Tiny(), tiny_critic()
    loop = fbwrap.attach(G, D, [("grow", "1")], example=torch.randn(2, 4, 1, 1), response="[0]")
    with pytest.raises(CriticError, match="nothing at response"):
        loop.respond(torch.zeros(2, 3, 8, 8), torch.randn(2, 4, 1, 1))


def test_what_an_adapter_filled_in_is_in_the_head(tmp_path):
    """Loading asks no adapter: what was known, or switched off, at attach holds."""
    G, D = latent.dcgan_g(size=32), translate.NLayerDiscriminator()
    z = torch.randn(2, 8, 1, 1)
    loop = fbwrap.attach(G, D, [("main.5", "model.4")], example=z, adapter=None, response=lambda answer: answer)
    loop.note(own_response=False)
    loop.save_pretrained(tmp_path / "head")
    assert fbwrap.from_pretrained(tmp_path / "head", G, D).facts.response is None


def test_plain_networks_leave_torch_compile_alone():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    seen = []

    def count(graph, inputs):
        seen.append(1)
        return graph.forward

    with fbwrap.attach(G, D).installed():
        torch.compile(lambda x: x * 2 + 1, backend=count)(torch.ones(2))
    assert seen


def test_compiled_generators_may_be_let_go_in_any_order():
    from torch._dynamo import eval_frame

    loops = []
    for _ in range(2):
        G = latent.dcgan_g(size=32).eval()
        loops.append(fbwrap.attach(torch.compile(G, backend="eager"), latent.DcganD(size=32)))
    first, second = (loop.install() for loop in loops)
    first.detach()
    assert eval_frame._stance.stance == "force_eager", "the second still needs it"
    second.detach()
    assert eval_frame._stance.stance == "default"


@pytest.mark.parametrize(
    ("last", "span"), [(nn.Tanh(), (-1.0, 1.0)), (nn.Sigmoid(), (0.0, 1.0)), (nn.Identity(), None)]
)
def test_the_range_is_that_of_the_layer_that_ran_last(last, span):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.up, self.last = nn.Linear(8, 128), nn.ConvTranspose2d(8, 3, 4, 2, 1), last
            self.gate = nn.Sigmoid()  # defined last, runs in the midst

        def forward(self, z):
            return self.last(self.up(self.gate(self.fc(z)).view(-1, 8, 4, 4)))

    loop = fbwrap.attach(Gated(), tiny_critic(), [("fc", "1")], example=torch.randn(1, 8))
    found = loop.facts.adapter["value_range"]
    assert (tuple(found) if found else None) == span


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


def test_train_with_on_frozen_networks_other_groups_and_other_optimizers():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(
        [{"params": list(other.named_parameters()), "lr": 1e-9}, {"params": list(G.named_parameters()), "lr": 1e-3}]
    )
    G.requires_grad_(False)
    G.train()
    before = G.main[1].running_mean.clone()
    loop = fbwrap.attach(G, D).install().train_with(optimizer)
    held = {id(p) for p in optimizer.param_groups[1]["params"]}
    assert held == {id(p) for p in loop.parameters()}, "in the group that held G"
    optimizer.state_dict()
    G(torch.randn(4, 8, 1, 1))
    assert torch.equal(G.main[1].running_mean, before), "frozen beforehand, and still run in eval mode"
    norm = next(m for m in loop.modules() if isinstance(m, nn.BatchNorm2d))
    kept = norm.running_mean.clone()
    G.eval()(torch.randn(4, 8, 1, 1))
    assert torch.equal(norm.running_mean, kept), "sampling moves no statistics of the head"
    G.train()(torch.randn(4, 8, 1, 1))
    assert not torch.equal(norm.running_mean, kept)
    loop.detach()
    with pytest.raises(fbwrap.errors.DetachedError):
        loop.train_with(torch.optim.Adam(G.parameters()))
    with pytest.raises(SettingError, match="LBFGS"):
        fbwrap.attach(G, D).train_with(torch.optim.LBFGS(G.parameters()))


def test_two_threads_may_look_at_a_d_of_one_size():
    pytest.importorskip("basicsr")
    import threading

    from families import basicsr

    D, G = basicsr("vgg").eval(), basicsr("rrdb").eval()
    loop = fbwrap.attach(G, D)
    failed = []

    def run(work):
        try:
            for _ in range(4):
                work()
        except Exception as error:
            failed.append(error)

    works = [lambda: loop(torch.rand(1, 3, 12, 12)), lambda: fbwrap.attach(basicsr("rrdb"), D)]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed
    assert D.input_size == 128


def test_explain_takes_modules_and_says_so():
    with pytest.raises(SettingError, match="discriminator='timm:x' is not a"):
        fbwrap.explain(Tiny(), "timm:x")
