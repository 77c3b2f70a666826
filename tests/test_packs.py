"""Discriminators that judge several samples as one: PacGAN's, CTGAN's."""

import pytest
import torch
from fbwrap.recipes import AFL
from fbwrap.recipes.studies import replaced_signals
from helpers import stir
from torch import Tensor, nn
from zoo import Deconv

import fbwrap
from fbwrap.errors import CriticError, SettingError


class TableG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.hidden(z).relu())


class TableD(nn.Module):
    """As CTGAN's: the packing is its own."""

    def __init__(self, pac: int = 3) -> None:
        super().__init__()
        self.pac = pac
        self.seq = nn.Sequential(nn.Linear(5 * pac, 7), nn.LeakyReLU(0.2), nn.Linear(7, 1))

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) % self.pac == 0
        return self.seq(x.reshape(-1, 5 * self.pac))


class PackedImageD(nn.Module):
    """As PacGAN's: packs are channels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def neighbours(y: Tensor, *_: object) -> Tensor:
    return y.unflatten(0, (-1, 2)).flatten(1, 2)


@pytest.fixture
def table():
    torch.manual_seed(0)
    return TableG().eval(), TableD().eval()


Z = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_the_signal_goes_to_all_samples_of_a_pack(table, count):
    G, D = table
    z = Z[:count]
    with torch.no_grad(), stir(fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=3)) as loop:
        y = G(z)
        whole = torch.cat([y] * 3)[: -(-count // 3) * 3]  # its first samples again
        signal = D.seq[:2](whole.reshape(-1, 15)).repeat_interleave(3, 0)[:count]
        hidden = G.hidden(z)
        expected = G.last((hidden + loop.feedback[0](hidden, signal)).relu())
        assert torch.allclose(loop(z), expected, atol=1e-6)


def test_whole_packs_do_not_depend_on_other_packs(table):
    G, D = table
    with stir(fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=3)) as loop:
        assert torch.allclose(loop(Z[:6])[:3], loop(Z[:3]), atol=1e-6)
        assert not torch.allclose(loop(Z[:6])[:2], loop(Z[:2]), atol=1e-6)


def test_the_response_as_a_source(table):
    G, D = table
    with stir(fbwrap.attach(G, D, [("hidden", "response")], example=Z[:2], pack=3)) as loop:
        assert loop(Z).shape == (8, 5)
        assert len(loop.rollout(Z).responses[-1]) == 3  # D's own: one for each pack


def test_packs_of_pictures_by_critic_input():
    torch.manual_seed(0)
    G, D, z = Deconv().eval(), PackedImageD().eval(), torch.randn(5, 6, 1, 1)
    how = {"example": z[:1], "critic_input": neighbours, "pack": 2}
    with torch.no_grad(), stir(fbwrap.attach(G, D, [("main.5", "net.1")], **how)) as loop:
        assert loop(z).shape == G(z).shape
        assert torch.allclose(loop(z)[:4], loop(z[:4]), atol=1e-6)
        assert not torch.allclose(loop(z)[4:], G(z)[4:], atol=1e-6)
    with fbwrap.attach(G, D, "auto", **how) as loop:
        assert len(loop) == 2


def test_packs_of_samples_that_are_no_neighbours_are_refused():
    G, D, z = Deconv().eval(), PackedImageD().eval(), torch.randn(4, 6, 1, 1)
    with pytest.raises(CriticError, match=r"not of neighbours.*unflatten\(0, \(-1, 2\)\)"):
        fbwrap.attach(G, D, "auto", example=z, critic_input=lambda y, z: torch.cat(y.chunk(2), 1), pack=2)


def test_another_number_is_refused_with_the_right_one(table):
    G, D = table
    with pytest.raises(CriticError, match="Pass pack=3"):
        fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=6)


@pytest.mark.parametrize("pack", [0, -1, 1.5, True, "3", 10**9])
def test_what_is_no_number_of_samples_is_refused(table, pack):
    with pytest.raises(SettingError, match="pack="):
        fbwrap.attach(*table, [("hidden", "seq.1")], example=Z[:2], pack=pack)


def test_without_pack_the_message_names_it(table):
    G, D = table
    with pytest.raises(CriticError, match="takes 3 samples as one: pass pack=3"):
        fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2])
    with pytest.raises(fbwrap.errors.FbwrapError, match="pack=3"):
        fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:6])


def test_a_head_keeps_it(table, tmp_path):
    G, D = table
    with stir(fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=3)) as loop:
        expected = loop(Z)
        loop.save_pretrained(tmp_path / "head")
    with fbwrap.from_pretrained(tmp_path / "head", G, D) as loop:
        assert torch.equal(loop(Z), expected)
        assert "judges 3 samples together" in str(loop.plan)


def test_the_plan_counts_what_the_examples_samples_cost(table):
    plans = [fbwrap.attach(*table, [("hidden", "seq.1")], example=Z[:n], pack=3).plan for n in (1, 6)]
    assert plans[0].share(plans[0].critic_flops) == pytest.approx(plans[1].share(plans[1].critic_flops), rel=0.05)


def test_it_trains_in_batches_of_whole_packs(table):
    G, D = table
    with fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=3) as loop:
        real = torch.randn(90, 5) + 1
        before = {name: value.clone() for name, value in loop.feedback.state_dict().items()}
        AFL(loop, loss="bce", batch=6, trackers="none", held_out=30).fit(
            real, lambda n: torch.randn(n, 4), 4, progress=False
        )
        assert any(not torch.equal(value, before[name]) for name, value in loop.feedback.state_dict().items())
        with pytest.raises(SettingError, match=r"D judges 3 samples together.*= 4 must be.*batch=63"):
            AFL(loop, loss="bce", batch=4, trackers="none").fit(real, lambda n: torch.randn(n, 4), 4, progress=False)


def test_samplers_say_that_they_need_an_answer_for_each_sample(table):
    with fbwrap.attach(*table, None, example=Z[:3], pack=3) as loop:
        loop.latents = "normal"
        with pytest.raises(CriticError, match="packed samples"):
            fbwrap.samplers.TopK(loop)(4)


def test_what_critic_input_draws_is_no_reason_to_refuse(table):
    G, D = table
    how = {"critic_input": lambda y, z: y + torch.rand_like(y), "pack": 3}
    before = torch.get_rng_state()
    with fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], **how) as loop:
        assert loop(Z).shape == (8, 5)
    torch.set_rng_state(before)


def test_a_refusal_tries_no_packs_of_large_samples(monkeypatch):
    from fbwrap.attaching import packed

    monkeypatch.setattr(packed, "_MOST_VALUES", 10)
    tried = []

    def critic_input(y):
        tried.append(len(y))
        return y

    assert packed.size_by_trial(TableD(), critic_input, (torch.randn(2, 5), (), {})) is None
    assert tried == [2], "packs of three would have 15 values"


def test_the_features_of_another_sample_are_those_of_another_pack(table):
    G, D = table
    with torch.no_grad(), stir(fbwrap.attach(G, D, [("hidden", "seq.1")], example=Z[:2], pack=3)) as loop:
        z = Z[:6]
        signal = D.seq[:2](G(z).reshape(-1, 15)).flip(0).repeat_interleave(3, 0)  # of two packs the other one's
        hidden = G.hidden(z)
        expected = G.last((hidden + loop.feedback[0](hidden, signal)).relu())
        with replaced_signals(loop, "another sample"):
            assert torch.allclose(loop(z), expected, atol=1e-6)
