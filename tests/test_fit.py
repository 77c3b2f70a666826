"""fbwrap.fit: the split, the space, the controls, the verdict, and that nothing is lost."""

import copy
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commandline import command
from fbwrap.adapters.fresh_critic import FreshCritic, build
from fbwrap.recipes import AFL
from fbwrap.recipes.fitting import Verdict, Way, controls, fitting, head_run
from fbwrap.recipes.fitting.clusters import pseudo_classes
from fbwrap.recipes.fitting.controls import TrainedOn, low_rank, step_ratio
from fbwrap.recipes.fitting.head_run import HeadRun
from fbwrap.recipes.fitting.measure import Interval, PairedPart, Part
from fbwrap.recipes.fitting.parts import split
from fbwrap.recipes.fitting.problem import Problem
from fbwrap.recipes.fitting.space import distance, learned_space, paired_errors
from fbwrap.recipes.fitting.verdict import judge
from fbwrap.recipes.fitting.ways import PUBLISHED, chosen_ways
from fbwrap.recipes.fitting.without_critic import without_critic
from fbwrap.recipes.metrics import Space, frechet_distance
from fbwrap.recipes.training.steps import NotFiniteError
from helpers import same, state
from shortened import shorten_fit
from torch import nn
from zoo import Deconv, LabelCritic, patch

import fbwrap
from fbwrap.errors import HeadError, SettingError
from fbwrap.feedback.pairing import targets_of
from fbwrap.heads.card import card
from fbwrap.heads.files import config_of


def pictures(n=240, seed=0):
    """Two kinds of pictures, (N, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.where(torch.arange(n)[:, None, None, None] % 2 == 0, 0.6, -0.6)
    return (base + 0.2 * torch.randn(n, 3, 16, 16, generator=generator)).tanh()


def summary(samples):
    """Means and deviations over channels: features that need no learning."""
    return torch.cat([samples.flatten(2).mean(2), samples.flatten(2).std(2)], 1)


def latents(n):
    return torch.randn(n, 6, 1, 1)


@pytest.fixture
def quick(monkeypatch):
    """Rounds of two steps, few samples."""
    shorten_fit(monkeypatch.setattr)


# -- parts and space ------------------------------------------------------------------------------------
def test_the_parts_have_nothing_in_common_and_a_seed_decides():
    data = torch.arange(400.0)[:, None]
    parts = split((data, data[:, 0].long()), seed=3)
    rows = [set(part[0][:, 0].tolist()) for part in (parts.training, parts.validation, parts.test)]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]
    assert set.union(*rows) == set(range(400))
    assert torch.equal(parts.test[0][:, 0].long(), parts.test[1]), "labels go with their samples"
    again = split((data, data[:, 0].long()), seed=3)
    assert torch.equal(parts.test[0], again.test[0])
    assert not torch.equal(parts.test[0], split(data, seed=4).test)
    with pytest.raises(SettingError, match="too few"):
        split(data[:50], seed=0)
    with pytest.raises(SettingError, match="cannot be split"):
        split(latents, seed=0)


def test_pseudo_classes_are_those_of_well_apart_samples():
    found = pseudo_classes(pictures(), count=2)
    assert len(set(found[::2].tolist())) == 1
    assert len(set(found[1::2].tolist())) == 1
    assert found[0] != found[1]
    assert int(pseudo_classes(pictures(60), count=50).max()) < 3, "twenty samples a class at least"


def test_the_space_is_learned_once_for_the_same_data(tmp_path, quick):
    real = pictures()
    before = torch.get_rng_state()
    first = learned_space(real, 0, tmp_path)(real[:8])
    assert torch.equal(before, torch.get_rng_state())
    (kept,) = tmp_path.glob("space-*.pt")
    written = kept.stat().st_mtime_ns
    assert torch.equal(learned_space(real, 0, tmp_path)(real[:8]), first)
    assert kept.stat().st_mtime_ns == written
    learned_space(pictures(seed=1), 0, tmp_path)
    assert len(list(tmp_path.glob("space-*.pt"))) == 2
    assert learned_space(torch.randn(200, 5))(torch.randn(3, 5)).shape == (3, 5), "vectors: principal components"


# -- D, controls, verdict -------------------------------------------------------------------------------
def test_the_distance_is_the_geometric_mean_of_the_spaces_blocks(tmp_path, quick):
    real = pictures(200)
    space = learned_space(real, 0, tmp_path)
    seen, held = space(pictures(100, seed=1) * 0.8), space(real)
    assert seen.shape[1] == sum(space.blocks)
    learned, components = (
        frechet_distance(a, b) for a, b in zip(seen.split(space.blocks, 1), held.split(space.blocks, 1), strict=True)
    )
    assert distance(space, seen, held) == pytest.approx((learned * components) ** 0.5)
    part = Part(real, [], space)
    assert part.value(seen) == pytest.approx(distance(space, seen, held))
    own = summary(real)
    assert distance(summary, own, own + 0.1) == pytest.approx(frechet_distance(own, own + 0.1)), "one block"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 16, 16, 16), (4, 128), (7,)])
def test_a_fresh_d_fits_any_sample(shape):
    x = torch.randn(2, *shape)
    for answer, parts in ((FreshCritic(shape, 5, True), 2), (FreshCritic(shape, 5), 2), (FreshCritic(shape), 1)):
        response, *names = answer(x)
        assert response.shape == (2, 1)
        assert [tuple(each.shape) for each in names] == [(2, 5)] * (parts - 1)
    response, names = FreshCritic(shape, 5, True)(x)
    torch.testing.assert_close(response[:, 0], names.exp().mean(1).log())


def test_a_low_rank_update_starts_as_g_and_moves_nothing_else():
    G = Deconv().eval()
    before = state(G)
    tuned = low_rank(G, 500).eval()
    z = latents(2)
    assert torch.equal(tuned(z), G(z))
    tuned(z).sum().backward()
    assert {name.rpartition(".")[2] for name, p in tuned.named_parameters() if p.requires_grad} == {"a", "b"}
    assert same(before, state(G))


def test_intervals_hold_what_is_known():
    made = torch.Generator().manual_seed(0)
    real, near, other = (torch.randn(600, 4, generator=made) + apart for apart in (0.0, 0.5, 0.5))
    part = Part(real, [], lambda samples: samples)
    assert part.ratio(near, near) == Interval(1.0, 1.0, 1.0)
    found = part.ratio(near, other)
    assert found.low < 1 < found.high, "two sets alike: neither is better"


def test_the_verdict_needs_ds_information_and_no_better_rival():
    better, even, worse = Interval(0.5, 0.4, 0.6), Interval(1.0, 0.9, 1.1), Interval(1.5, 1.3, 1.7)
    assert judge(better, better, better, better)[0] is Verdict.PUBLISH
    assert judge(better, better, better, even)[0] is Verdict.PUBLISH
    assert judge(better, better, better, worse)[0] is Verdict.TRAIN_ON
    assert judge(better, better, even, better)[0] is Verdict.NO_GAIN
    assert judge(better, even, better, better)[0] is Verdict.NO_GAIN
    assert judge(even, better, better, better)[0] is Verdict.NO_GAIN
    assert [verdict.exit_code for verdict in Verdict] == [0, 3, 4]
    assert "not compared" in judge(better, better, None, None)[1]
    assert "not compared" not in judge(better, better, better, better)[1]


def test_pairs_are_measured_item_by_item():
    targets = pictures(12)
    space = learned_space(pictures(60), 0)
    errors = paired_errors(space, torch.cat([targets[:1], targets[1:2] + 0.3 * torch.randn(1, 3, 16, 16)]), targets[:2])
    assert errors[0] == 0 < errors[1]
    part = PairedPart(targets, [targets[:8], targets[8:]], space, repeats=3)
    seen = part.look(lambda x: x + 0.1)
    assert seen.shape == (4, 2), "four items, of three crops each"
    assert part.beside(seen)["RMSE"] == pytest.approx(0.1, rel=1e-4)
    worse = part.look(lambda x: x + 0.3 * torch.randn_like(x))
    assert part.ratio(worse, seen).low > 1
    assert part.distance(lambda x: x * float("nan")) == float("inf")


def test_items_that_are_random_crops_are_read_several_times_and_stay_in_their_part():
    class Crops:
        def __len__(self):
            return 120

        def __getitem__(self, i):
            return torch.full((1, 4, 4), float(i)) + 0.1 * torch.rand(()), torch.full((1, 8, 8), float(i))

    parts = split(Crops(), seed=0)
    items = [set(part[1][:, 0, 0, 0].tolist()) for part in (parts.training, parts.validation, parts.test)]
    assert [len(part) for part in items] == [84, 18, 18]
    assert sum(map(len, items)) == len(set.union(*items)) == 120
    assert parts.repeats == 11
    assert parts.validation[0][:11].sub(parts.validation[1][0, 0, 0, 0]).flatten(1).mean(1).unique().numel() > 1
    assert {float(parts.stream[i][1][0, 0, 0]) for i in range(len(parts.stream))} == items[0]


# -- the whole ------------------------------------------------------------------------------------------
def test_a_fit_from_start_to_end_and_again(tmp_path, quick):
    torch.manual_seed(0)
    G, D = Deconv().train(), patch()
    before, rng = state(G, D), torch.get_rng_state()
    said = []
    result = fbwrap.fit(
        G, D, pictures(), latents=latents, out=tmp_path, steps=4, callbacks=[lambda name, score: said.append(name)]
    )
    assert same(before, state(G, D)), "G and D, their modes and statistics, are as before"
    assert torch.equal(rng, torch.get_rng_state())
    assert [row.model for row in result.rows] == [
        "base", "head", "head, with D's features of other samples",
        "G trained on, equal steps", "G trained on, equal time",
        "low-rank update of G, equal steps", "low-rank update of G, equal time", "same modules on zeros",
    ]  # fmt: skip
    assert set(result.history) == {"clusters", "clusters beside", "fresh D", "published D"}
    tried = {name: scores[-1].step for name, scores in result.history.items()}
    assert sorted(tried.values())[:2] == [2, 2], "half of the ways goes on"
    assert 4 < tried["published D"] <= 12, "the published D's for up to three times as long"
    assert "same modules on zeros" in said
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["verdict"] == result.verdict.value
    assert found["chosen"]["critic_of_rivals"] in {result.chosen.way, "published D"}
    for name in ("report.md", "report.html", "head/config.json"):
        assert (tmp_path / name).is_file()
    told = json.loads((tmp_path / "head" / "config.json").read_text())
    assert told["trained_on"]["verdict"] == result.verdict.value
    assert told["latents"] == "normal", "as the function's numbers tell"
    if result.verdict is Verdict.NO_GAIN:
        assert result.loop.strength == 0.0, "a head that is no gain changes nothing"
        z = latents(2)
        assert torch.equal(result.loop(z), copy.deepcopy(G)(z)), "in train mode a call moves the statistics of G"
    again = fbwrap.fit(G, D, pictures(), latents=latents, out=tmp_path, steps=4)
    assert again.sweep == result.sweep, "nothing is trained twice"
    assert again.rows == result.rows


def test_a_folder_holds_one_fit(tmp_path, quick):
    G, how = Deconv().eval(), {"latents": latents, "out": tmp_path, "ways": ["fresh D"], "controls": False}
    fbwrap.fit(G, None, pictures(), steps=2, **how)
    for other, more in (
        ("data", {"data": pictures(seed=1)}), ("seed", {"seed": 1}), ("steps", {"steps": 4}),
        ("G", {"generator": Deconv().eval()}), ("D", {"discriminator": patch()}),
    ):  # fmt: skip
        given = {"generator": G, "discriminator": None, "data": pictures(), "steps": 2, **more}
        with pytest.raises(SettingError, match=f"a fit whose {'data' if other == 'seed' else other} was different"):
            fbwrap.fit(given.pop("generator"), given.pop("discriminator"), given.pop("data"), **given, **how)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_g_that_takes_pictures_learns_from_pairs(tmp_path, quick, scale):
    torch.manual_seed(0)
    G = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Upsample(scale_factor=scale), nn.Conv2d(8, 3, 3, 1, 1))
    targets = pictures(130)
    inputs = nn.functional.avg_pool2d(targets, scale)
    before = state(G)
    result = fbwrap.fit(G, None, (inputs, targets), out=tmp_path, steps=2)
    assert same(before, state(G))
    assert set(result.history) == {"targets", "targets and fresh D"}
    assert result.rows[0].beside.keys() == {"RMSE"}
    assert "learned encoder" in (tmp_path / "report.md").read_text()
    sees = result.loop.discriminator.stages[0][0].in_channels
    assert sees == (6 if scale == 1 else 3), "where it has the sample's size, D sees the input too"
    larger = torch.randn(1, 3, 12, 20)
    assert result.loop(larger).shape == (1, 3, 12 * scale, 20 * scale), "the head works at any size"


def test_a_head_that_diverges_goes_back_and_slows_down(tmp_path, quick, monkeypatch):
    torch.manual_seed(0)
    G = Deconv().eval()
    problem = Problem.of(G, None, pictures(), latents, seed=0, folder=tmp_path, features=None, attach={})
    way, fits = Way("fresh D", "nothing", 1e-3), []

    class Diverging(AFL):
        def fit(self, *args, **how):
            fits.append((self.options.lr, how["out"]))
            found = super().fit(*args, **how)
            if len(fits) == 2:
                with torch.no_grad():
                    [parameter.fill_(float("nan")) for parameter in self.loop.parameters()]
                raise NotFiniteError("not finite")
            return found

    monkeypatch.setattr(head_run, "AFL", Diverging)
    run = HeadRun(problem, way, tmp_path / "run", 0, 8)
    first, second = run.train(2), run.train(4)
    assert (second.step, second.distance) == (4, float("inf"))
    assert run.best == first
    kept = fbwrap.from_pretrained(tmp_path / "run" / "best", G)
    run._back_off(second)
    assert same(state(run.loop.feedback), state(kept.feedback)), "the best state so far"
    again = HeadRun(problem, way, tmp_path / "run", 0, 8)  # as after a kill
    assert same(state(again.loop.feedback), state(kept.feedback))
    third = again.train(6)
    assert third.distance < float("inf")
    assert [lr for lr, _ in fits] == [1e-3, 1e-3, 5e-4]
    assert fits[2][1] == tmp_path / "run" / "from-4"


def test_a_d_whose_features_know_nothing_is_no_gain(tmp_path, quick, monkeypatch):
    """What its layers give is constant: the head can only be as good as one on zeros, however good that is."""

    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.judge = nn.Conv2d(3, 4, 3, 1, 1), nn.Linear(3 * 16 * 16, 1)

        def forward(self, x):
            return self.judge(x.flatten(1)) + 0 * self.seen(0 * x).flatten(1).sum(1, keepdim=True)

    for name, value in (("ROUND", 60), ("RATES", (1e-4,))):
        monkeypatch.setattr(fitting, name, value)
    torch.manual_seed(0)
    G = Deconv().eval()
    with torch.no_grad():
        real = (G(latents(400)) + 0.5).clamp(-1, 1)
    way = Way("published D", "published", 1e-2, 1e-2)
    result = fbwrap.fit(G, Blind(), real, latents=latents, out=tmp_path, steps=60, ways=[way], features=summary)
    head = next(row for row in result.rows if row.model == "head")
    assert head.over_base.high < 1, "better than the base it is"
    assert result.verdict is Verdict.NO_GAIN
    assert result.without_critic is not None, "and so are its modules without D"
    assert "worth having without feedback" in result.why
    z = latents(3)
    assert not (tmp_path / "without_D" / "discriminator.safetensors").exists(), "D has no part in it"
    with fbwrap.from_pretrained(tmp_path / "without_D", G) as alone:
        y = alone(z)
        assert torch.equal(y, result.without_critic(z))
        assert torch.equal(y, result.rivals["same modules on zeros"](z))
        assert not torch.equal(y, G(z))
        assert torch.equal(alone.rollout(z, steps=3).output, y), "further steps see zeros, too"
        assert alone.facts.trained_on["verdict"] == "better than G, without feedback"
    with pytest.raises(HeadError, match="leave it out"):
        fbwrap.from_pretrained(tmp_path / "without_D", G, Blind())
    assert "so what D sees is not what helps" in result.why


KILLED = """
import json, os, signal, sys
import torch
sys.path.insert(0, sys.argv[1])
import test_fit
import fbwrap
test_fit.shorten_fit()
torch.manual_seed(0)
G, told = test_fit.Deconv().eval(), sys.argv[2] + "/told"
def kill(name, score):
    with open(told, "a+") as file:
        file.seek(0)
        seen = file.read().splitlines()
        if repr(score) not in seen:
            file.write(repr(score) + "\\n")
            file.flush()
            if len(seen) % 15 == 2 and sys.argv[3] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
result = fbwrap.fit(G, None, test_fit.pictures(), latents=test_fit.latents, out=sys.argv[2], steps=4, callbacks=[kill])
print(json.dumps([[row.model, row.distance.value] for row in result.rows if "equal time" not in row.model]))
"""


def test_a_fit_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path):
    (tmp_path / "run.py").write_text(KILLED)

    def run(out, how):
        (tmp_path / out).mkdir(exist_ok=True)
        words = [sys.executable, tmp_path / "run.py", Path(__file__).parent, tmp_path / out, how]
        return subprocess.run(words, capture_output=True, text=True, timeout=300)

    wanted = run("whole", "live")
    assert wanted.returncode == 0, wanted.stderr
    kills = 0
    while (done := run("killed", "kill")).returncode == -signal.SIGKILL:
        kills += 1
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(wanted.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (
            nn.Sequential(nn.ConvTranspose3d(6, 8, 4), nn.ReLU(), nn.ConvTranspose3d(8, 1, 4, 4), nn.Sigmoid()),
            (1, 1, 1),
        ),
        (nn.Sequential(nn.ConvTranspose1d(6, 8, 8), nn.ReLU(), nn.ConvTranspose1d(8, 2, 4, 4)), (1,)),
        (nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)), ()),
    ],
    ids=["voxels", "signals", "vectors"],
)
def test_samples_of_any_kind(tmp_path, quick, net, shape):
    draw = lambda n: torch.randn(n, 6, *shape)
    with torch.no_grad():
        real = net(draw(200)) * 0.9
    result = fbwrap.fit(net, None, real, latents=draw, out=tmp_path, steps=2)
    assert set(result.history) == {"clusters", "clusters beside", "fresh D"}
    assert (tmp_path / "report.html").is_file()
    again = fbwrap.from_pretrained(tmp_path / "head", net)
    z = draw(3)
    assert torch.equal(again(z), result.loop(z)), "a head that brings its critic"


def test_sequences_of_recurrent_networks_have_their_channels_last(tmp_path, quick):
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, z):
            return self.out(self.lstm(z)[0])

    G, draw = Waves().eval(), lambda n: torch.randn(n, 16, 6)
    real = torch.randn(240, 16, 2).cumsum(1)
    result = fbwrap.fit(G, None, real, latents=draw, out=tmp_path, steps=2, ways=["fresh D"], controls=False)
    D = result.loop.discriminator
    assert (D.channels_last, D.stages[0][0].in_channels, D.spec[:19]) == (True, 2, "fresh:critic(2, 16,")
    assert [str(link) for link in result.loop.connections] == ["lstm[0] <- fpn <- stages.0 + stages.1"]
    z = draw(3)
    again = fbwrap.from_pretrained(tmp_path / "head", G)
    assert torch.equal(again(z), result.loop(z)), "a head that brings its critic"
    assert "channels_last=True" in (tmp_path / "head" / "config.json").read_text()


def test_inceptions_features_where_they_are(tmp_path, quick, monkeypatch):
    asked = []
    monkeypatch.setattr(fitting, "inception", lambda span: asked.append(span) or Space("Inception-v3", summary))
    how = {"latents": latents, "steps": 2, "ways": ["fresh D"], "controls": False, "features": "inception"}
    result = fbwrap.fit(Deconv().eval(), None, pictures(), out=tmp_path, value_range=(0.0, 1.0), **how)
    assert asked == [(0.0, 1.0)]
    assert result.space == "Fréchet's in Inception-v3"
    assert not list(tmp_path.glob("space-*")), "none is learned"


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 1, 2, 3, 0], [2, 2, 2], [1], [2, 1], [9, 8, 1, 8, 9]]
)
def test_rates_are_searched_from_the_middle_to_where_both_neighbours_are_worse(values):
    asked = []
    found = controls.around_lowest(lambda i: asked.append(i) or values[i], len(values))
    assert found == {i: values[i] for i in asked}
    place = min(found, key=found.get)
    assert all(values[place] <= values[i] for i in (place - 1, place + 1) if 0 <= i < len(values))
    assert len(asked) == len(set(asked)), "none is asked twice"
    if values == [9, 8, 1, 8, 9]:
        assert sorted(asked) == [1, 2, 3]


def test_equal_time_is_timed_in_turn_and_kept(tmp_path, quick, monkeypatch):
    torch.manual_seed(0)
    G = Deconv().eval()
    problem = Problem.of(G, None, pictures(), latents, seed=0, folder=tmp_path, features=None, attach={})
    way, told = Way("fresh D", "nothing", 1e-3), []
    head = HeadRun(problem, way, tmp_path / "head", 0, 4)
    rival = TrainedOn(problem, way, head.warmed_critic, tmp_path / "rival", 0, 1e-3, 4)
    before = state(head.loop, rival.net, G)
    assert head.timed(2) > 0
    assert rival.timed(2) > 0
    assert same(before, state(head.loop, rival.net, G)), "what is timed is thrown away"
    monkeypatch.setattr(HeadRun, "timed", lambda self, steps: told.append("head") or 0.3)
    monkeypatch.setattr(TrainedOn, "timed", lambda self, steps: told.append("rival") or 0.1)
    monkeypatch.setattr(controls, "_ROUNDS", 5)
    assert step_ratio(head, rival, tmp_path) == pytest.approx(3.0)
    assert told == ["head", "rival"] * (len(told) // 2)
    assert step_ratio(head, rival, tmp_path) == pytest.approx(3.0)
    assert len(told) == 12, "not timed again"


@pytest.mark.parametrize("better", ["clusters", "published D"])
def test_g_is_trained_further_by_the_better_of_the_heads_d_and_the_published_one(tmp_path, monkeypatch, better):
    trained = []

    class Rival:
        def __init__(self, problem, way, critic, folder, seed, rate, planned, parameters=None):
            self.way, self.lr, self.planned, self.steps, self.parameters = way, rate, planned, 0, parameters
            self.within = lambda steps: rate + (way.name != better)
            self.best = SimpleNamespace(distance=self.within(0))
            trained.append((way.name, parameters))

        def train(self, steps):
            self.steps = steps

        def best_network(self):
            return self.way.name, self.lr, self.planned

    monkeypatch.setattr(fitting, "TrainedOn", Rival)
    monkeypatch.setattr(fitting, "step_ratio", lambda *given: 1.5)
    heads = [
        SimpleNamespace(
            way=way, folder=tmp_path / way.name, steps=1000, seed=0, problem=None, warmed_critic=None,
            loop=SimpleNamespace(parameters=lambda: [torch.zeros(7)]),
        )
        for way in (Way("clusters", "names as response", 1e-3), PUBLISHED)
    ]  # fmt: skip
    progress = SimpleNamespace(tell=lambda *given: None, expect=lambda *given: None)
    found, critic = fitting._controls(*heads, tmp_path, progress)
    assert critic == better
    assert {name for name, size in trained if size is None} == {"clusters", "published D"}, "both are tried"
    assert {name for name, size in trained if size == 7} == {better}, "one of them trains the update"
    assert found == {
        "G trained on, equal steps": (better, min(fitting.RATES), 1000),
        "G trained on, equal time": (better, min(fitting.RATES), 1500),
        "low-rank update of G, equal steps": (better, min(fitting.RATES), 1000),
        "low-rank update of G, equal time": (better, min(fitting.RATES), 1500),
    }
    trained.clear()
    assert fitting._controls(heads[1], heads[1], tmp_path, progress)[1] == "published D"
    assert {name for name, _ in trained} == {"published D"}, "the head's own"


def test_ctrl_c_leaves_the_best_head_so_far(tmp_path, quick):
    torch.manual_seed(0)
    G, said = Deconv().eval(), []

    def stop(name, score):
        said.append(name)
        if len(said) == 2:
            raise KeyboardInterrupt

    how = {"latents": latents, "out": tmp_path, "steps": 2, "controls": False}
    with pytest.raises(KeyboardInterrupt):
        fbwrap.fit(G, None, pictures(), callbacks=[stop], **how)
    config = config_of(tmp_path / "head")
    assert config["trained_on"]["verdict"] == "not judged"
    fbwrap.from_pretrained(tmp_path / "head", G).detach()
    result = fbwrap.fit(G, None, pictures(), callbacks=[lambda name, score: said.append(name)], **how)
    assert len(result.history) == 3
    assert config_of(tmp_path / "head")["trained_on"]["verdict"] == result.verdict.value


def test_pairs_from_the_command_line(tmp_path, quick):
    from PIL import Image

    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Up(nn.Sequential):\n"
        "    def __init__(self, scale):\n"
        "        super().__init__(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Upsample(scale_factor=scale), "
        "nn.Conv2d(8, 3, 3, 1, 1))\n"
        "        for p in self.parameters(): nn.init.constant_(p, 0.1)  # weights of its own\n"
    )
    for i, pixels in enumerate(torch.randint(0, 256, (110, 24, 48, 3), dtype=torch.uint8)):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(tmp_path / "data" / f"{i}.png")
    words = ["--example", "1x3x8x8", "--steps", 2, "--no-controls", "--json"]
    codes = {verdict.value: verdict.exit_code for verdict in Verdict}
    for scale, data in ((2, tmp_path / "data"), (1, f"right:{tmp_path / 'data'}")):
        out = tmp_path / f"run{scale}"
        done = command("fit", "-g", f"{tmp_path / 'nets.py'}:Up({scale})", "--data", data, *words, "--out", out)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert done.exit_code == codes[found["verdict"]]
        assert "RMSE" in found["rows"][0]["beside"]
    done = command("fit", "-g", f"{tmp_path / 'nets.py'}:Up(1)", "--data", tmp_path / "data", *words)
    assert done.exit_code == 1
    assert "must give inputs and targets" in done.output


def test_a_perfect_g_is_no_gain(tmp_path, quick):
    """Real data that are samples of G itself."""
    torch.manual_seed(0)
    G = Deconv().eval()
    with torch.no_grad():
        real = G(latents(400))
    result = fbwrap.fit(G, None, real, latents=latents, out=tmp_path, steps=2, controls=False)
    assert set(result.history) == {"clusters", "clusters beside", "fresh D"}, "without D, one is made"
    assert result.verdict is Verdict.NO_GAIN


def test_what_cannot_be_fitted_is_said_before_anything_runs(tmp_path):
    G = Deconv()
    with pytest.raises(SettingError, match="needs data="):
        fbwrap.fit(G, out=tmp_path)
    with pytest.raises(SettingError, match="Bring the data to G's shape"):
        fbwrap.fit(G, None, torch.randn(200, 3, 8, 8), latents=latents, out=tmp_path)
    with pytest.raises(SettingError, match=r"no torch.nn.Module|is not a torch"):
        fbwrap.fit(lambda z: z, None, pictures(), latents=latents, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_ways_are_chosen_by_name_or_given(tmp_path, quick):
    own = Way("gentle", "nothing", 1e-5, module="light")
    how = {"latents": latents, "steps": 2, "controls": False}
    result = fbwrap.fit(Deconv().eval(), None, pictures(), out=tmp_path, ways=["fresh D", own], **how)
    assert set(result.history) == {"fresh D", "gentle"}
    with pytest.raises(SettingError, match=r"no 'published D' here.*'clusters'"):
        fbwrap.fit(Deconv().eval(), None, pictures(), out=tmp_path / "other", ways=["published D"], **how)


def test_a_d_that_is_called_with_classes(tmp_path, quick):
    torch.manual_seed(0)
    real, how = pictures(), {"latents": lambda n: (latents(n), torch.randint(0, 2, (n,))), "steps": 2}
    labels = torch.arange(len(real)) % 2

    class Kinds(Deconv):
        def forward(self, z, kinds):
            return super().forward(z) + 0.1 * kinds[:, None, None, None]

    more = {"critic_input": "output_and_label", "controls": False}
    D = LabelCritic()
    D.conv[0] = nn.Conv2d(3, 8, 4, 2, 1)
    result = fbwrap.fit(Kinds().eval(), D, (real, labels), out=tmp_path, **how, **more)
    assert set(result.history) == {"labels", "labels beside", "fresh D", "published D"}
    with pytest.raises(SettingError, match="Pass data="):
        fbwrap.fit(Kinds().eval(), D, real, out=tmp_path / "other", **how, **more)


def test_fit_from_the_command_line(nets, tmp_path, quick):
    pytest.importorskip("matplotlib")
    from PIL import Image

    (tmp_path / "data").mkdir()
    done = command("inspect", nets + "G", "-d", nets + "D", "--json")
    assert done.exit_code == 0, done.output
    from fbwrap.app.models import load_model

    side = load_model(nets + "G")(torch.randn(1, 8, 1, 1)).shape[-1]
    for i, picture in enumerate(torch.randint(0, 256, (130, side, side, 3), dtype=torch.uint8)):
        Image.fromarray(picture.numpy()).save(tmp_path / "data" / f"{i}.png")
    for name in "GD":
        torch.save(load_model(nets + name).state_dict(), tmp_path / f"{name}.pth")
    bare = ["-g", nets + "G", "-d", nets + "D", "--data", tmp_path / "data", "--latents", "normal", "--steps", 2]
    for more, what in (([], "G has random weights.*--weights"), (["--weights", tmp_path / "G.pth"], "D has random")):
        done = command("fit", *bare, *more, "--out", tmp_path / "run")
        assert done.exit_code == 1
        assert re.search(what, done.output.replace("\n", " "))
        assert not (tmp_path / "run").exists()
    words = [*bare, "--weights", tmp_path / "G.pth", "--critic-weights", tmp_path / "D.pth"]
    done = command("fit", *words, "--out", tmp_path / "run", "--no-controls", "--json")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    codes = {verdict.value: verdict.exit_code for verdict in Verdict}
    assert done.exit_code == codes[found["verdict"]]
    assert (tmp_path / "run" / "report.html").is_file()
    done = command("fit", "-g", nets + "G")
    assert done.exit_code == 1
    assert "--data, real samples" in done.output


def test_classes_of_the_users_own_are_named(tmp_path, quick):
    real = pictures()
    labels = torch.arange(len(real)) % 2
    result = fbwrap.fit(Deconv().eval(), None, (real, labels), latents=latents, out=tmp_path, steps=2, controls=False)
    assert "labels" in result.history
    assert isinstance(result.loop.discriminator, nn.Module)


def test_the_card_carries_the_verdict(tmp_path, quick):
    torch.manual_seed(0)
    G = Deconv().eval()
    with torch.no_grad():
        real = G(latents(400))
    fbwrap.fit(G, None, real, latents=latents, out=tmp_path, steps=2, controls=False)
    text = card(config_of(tmp_path / "head"), "me/head")
    assert "Verdict of `fbwrap fit`: **no gain: keep the base**." in text
    assert "from_pretrained(" in text
    assert "D)" not in text.split("```")[1], "the critic is made again: nobody has to pass it"


@pytest.mark.parametrize(("second", "taken"), [(1.01, "second"), (60.0, "first")])
def test_a_head_behind_anothers_modules_on_zeros_is_not_taken(tmp_path, monkeypatch, second, taken):
    """The first head is no better than its modules on zeros, the second is ahead of its own: it is taken if it is
    level with the first, and not if it is far off."""
    distances = {"first": 1.0, "first on zeros": 1.0, "second": second, "second on zeros": 2 * second}

    class Space:
        def look(self, name):
            return name

        def ratio(self, one, other):
            value = distances[one] / distances[other]
            return Interval(value, 0.9 * value, 1.1 * value)

    class Stub:
        def __init__(self, problem, way, folder, seed=0, planned=1, control_of=None):
            self.name = f"{control_of.name} on zeros" if control_of else way
            self.problem, self.way, self.folder, self.seed, self.steps = problem, way, folder, seed, planned
            self.loop, self.best = SimpleNamespace(strength=1.0), SimpleNamespace(strength=1.0)

        def restore_best(self):
            pass

        def at(self, strength):
            return self.name

    class Named(Stub):
        def __init__(self, name):
            super().__init__(SimpleNamespace(validation=Space()), name, tmp_path / name)
            self.loop = NamedLoop(name)

    class NamedLoop(str):
        strength = 1.0

    monkeypatch.setattr(fitting, "HeadRun", Stub)
    monkeypatch.setattr(fitting, "_choose", lambda run: {})
    monkeypatch.setattr(fitting, "_to_the_end", lambda *given: None)
    winner, _, alone = fitting._best_of([Named("first"), Named("second")], tmp_path, None, True)
    assert winner.name == taken
    assert alone.name == f"{taken} on zeros"


def test_the_loss_of_a_published_d(tmp_path, quick):
    from dataclasses import replace

    from fbwrap.recipes.fitting.ways import PUBLISHED

    G, fresh = Deconv().eval(), Way("fresh", "nothing", 1e-4)

    def problem_of(D):
        return Problem.of(G, D, pictures(), latents, seed=0, folder=tmp_path, features=summary, attach={})

    plain = problem_of(patch())
    assert (plain.loss_for(PUBLISHED), plain.betas_for(PUBLISHED)) == ("bce", (0.5, 0.999))
    spectral = problem_of(patch(wrap=nn.utils.parametrizations.spectral_norm))
    assert (spectral.loss_for(PUBLISHED), spectral.betas_for(PUBLISHED)) == ("hinge", (0.0, 0.9))
    assert (spectral.loss_for(fresh), spectral.betas_for(fresh)) == ("bce", (0.5, 0.999)), "of a new D"
    assert replace(spectral, loss="bce").loss_for(PUBLISHED) == "bce", "the user's word comes first"
    with pytest.raises(SettingError, match=r"loss='wgan' is not one of bce, hinge"):
        fbwrap.fit(G, patch(), pictures(), latents=latents, out=tmp_path / "run", loss="wgan")


def test_a_published_d_of_packs_gets_whole_packs(tmp_path, quick):
    class Pairs(nn.Module):
        """As PacGAN's: three neighbours are one picture of nine channels."""

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(9, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 8))

        def forward(self, x):
            return self.net(x.unflatten(0, (-1, 3)).flatten(1, 2)).flatten(1)

    torch.manual_seed(0)
    result = fbwrap.fit(
        Deconv().eval(), Pairs(), pictures(), latents=latents, out=tmp_path, steps=2, ways=["published D"],
        pack=3, loss="bce",
    )  # fmt: skip
    assert result.history["published D"], "a batch of 8, as others have, is refused"


def test_minutes_stop_the_heads_and_so_what_they_are_compared_with(tmp_path, quick, monkeypatch):
    torch.manual_seed(0)
    G, how = Deconv().eval(), {"latents": latents, "steps": 8, "ways": ["fresh D"]}
    result = fbwrap.fit(G, None, pictures(), out=tmp_path / "short", minutes=0.0, **how)
    assert [score.step for score in result.history["fresh D"]] == [2], "the first round is always trained"
    zeros = tmp_path / "short" / "zeros" / "fresh-D" / "scores.json"
    if zeros.is_file():  # a head of no strength has none
        assert json.loads(zeros.read_text())[-1]["step"] == 2
    again = fbwrap.fit(G, None, pictures(), out=tmp_path / "short", minutes=60.0, **how)
    assert again.history == result.history, "what its minutes ended stays ended, for the rest has as many steps"
    assert again.rows == result.rows
    moments = iter([0.0] + [700.0] * 1000)
    monkeypatch.setattr(fitting.time, "monotonic", lambda: next(moments))
    result = fbwrap.fit(G, None, pictures(), out=tmp_path / "share", minutes=30.0, controls=False, **how)
    assert result.history["fresh D"][-1].step > 2, "all of the time is the heads'"
    moments = iter([0.0] + [700.0] * 1000)
    result = fbwrap.fit(G, None, pictures(), out=tmp_path / "third", minutes=30.0, **how)
    assert result.history["fresh D"][-1].step == 2, "700 s are more than 30 % of 30 minutes"


def test_a_way_may_not_take_a_folder_of_every_fit():
    with pytest.raises(SettingError, match="name of a folder"):
        chosen_ways([Way("zeros", "nothing", 1e-4)], [])


def test_what_an_earlier_fit_left_is_not_taken_for_this_ones(tmp_path, quick):
    torch.manual_seed(0)
    old = tmp_path / "without_D"
    old.mkdir()
    (old / "config.json").write_text("{}")
    result = fbwrap.fit(
        Deconv().eval(), None, pictures(), latents=latents, out=tmp_path, steps=2, ways=["fresh D"], controls=False
    )
    assert result.without_critic is None
    assert not old.exists()


def test_strengths_are_compared_with_few_samples_and_heads_with_more(tmp_path, quick, monkeypatch):
    from fbwrap.recipes.fitting import measure

    asked = []
    monkeypatch.setattr(measure, "_GLANCE", 5)
    monkeypatch.setattr(measure, "_BRIEF", 20)
    problem = Problem.of(
        Deconv().eval(), None, pictures(), latents, seed=0, folder=tmp_path, features=summary, attach={}
    )
    run = HeadRun(problem, Way("fresh", "nothing", 1e-4), tmp_path / "run", 0, 2)
    monkeypatch.setattr(
        problem.validation, "distance", lambda generate, most=None: asked.append(most) or abs(len(asked) - 2.0)
    )
    assert run.compare() == (0.5, 2.0), "the second of three strengths had the least; it is measured again"
    assert asked == [5, 5, 5, 20]
    pairs = PairedPart(torch.zeros(2, 1), [], summary)
    monkeypatch.setattr(pairs, "distance", lambda generate: generate)
    assert pairs.best_of({0.5: 3.0, 1.0: 2.0}) == (1.0, 2.0), "of pairs all are used, once"


def test_the_published_ds_head_has_a_link_at_each_resolution(tmp_path, quick):
    from fbwrap.recipes.fitting.ways import PUBLISHED

    problem = Problem.of(
        Deconv().eval(), patch(), pictures(), latents, seed=0, folder=tmp_path, features=summary, attach={}
    )
    run = HeadRun(problem, PUBLISHED, tmp_path / "run", 0, 4)
    assert [link.module for link in run.loop.plan.links] == ["dual"] * len(run.loop)
    assert len(run.loop) == len(targets_of(run.loop.traces[0])) > 1
    fresh = HeadRun(problem, Way("fresh", "nothing", 1e-4), tmp_path / "fresh", 0, 4)
    assert len(fresh.loop) == 1


@pytest.mark.parametrize(
    "spec", ["zeros()", "zeros(8)", "zeros([0, 4])", "zeros([True])", "zeros([8, 4, 4, 4, 4])", "zeros([9999, 9999])",
             "zeros([8], width=3)"]
)  # fmt: skip
def test_shapes_of_a_d_of_zeros_that_make_no_sense_are_refused(spec):
    with pytest.raises(SettingError, match="fresh:"):
        build(spec, (-1.0, 1.0))


def test_modules_on_zeros_of_any_layout_need_no_d():
    """Tokens, vectors and sequences as features of D are maps of zeros just as well."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.mix, self.judge = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x):
            return self.judge(self.mix(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    torch.manual_seed(0)
    G, z = Deconv().eval(), latents(3)
    links = [fbwrap.Link("main.5", ["mix", "judge"], module="fpn")]
    with fbwrap.attach(G, Tokens(), links, example=z, first="zeros") as loop:
        for parameter in loop.parameters():
            nn.init.normal_(parameter, std=0.1)
        with without_critic(loop) as alone:
            assert torch.equal(alone(z), loop(z))
            assert not torch.equal(alone(z), G(z))
            assert not alone.discriminator.state_dict()
