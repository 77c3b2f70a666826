"""Which axis is the batch, and which holds the channels: sequences, states, frames. No sample sees its neighbours."""

import copy

import pytest
import torch
from helpers import stir
from torch import nn

import fbwrap
from fbwrap import errors


class Recurrent(nn.Module):
    """(N, T, I) or (T, N, I) → the same with O; what it hands out is the sequence, or the last state."""

    def __init__(self, inside, outside, kind=nn.GRU, last=False, **options):
        super().__init__()
        self.rnn, self.last = kind(inside, 8, 2, **options), last
        self.out = nn.Linear(16 if options.get("bidirectional") else 8, outside)

    def forward(self, z):
        sequence, state = self.rnn(z)
        state = state[0] if isinstance(state, tuple) else state
        return self.out(state[-1] if self.last else sequence)


class Judge(nn.Module):
    """A recurrent D with one answer for each sequence."""

    def __init__(self, inside, batch_first):
        super().__init__()
        self.rnn, self.out, self.batch_first = nn.GRU(inside, 8, batch_first=batch_first), nn.Linear(8, 1), batch_first

    def forward(self, y):
        h = self.rnn(y)[0]
        return self.out(h[:, -1] if self.batch_first else h[-1])


class Attention(nn.Module):
    """A transformer, time first unless it is said."""

    def __init__(self, inside, outside, pooled=False, batch_first=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=batch_first)
        self.lift, self.body = nn.Linear(inside, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out, self.pooled, self.time = nn.Linear(16, outside), pooled, 1 if batch_first else 0

    def forward(self, z):
        h = self.body(self.lift(z))
        return self.out(h.mean(self.time) if self.pooled else h)


class Trajectories(nn.Module):
    """A path seen (T, N, 2) → the path to come (T, N, 2): an LSTM over time, a cell that is called for each step."""

    def __init__(self):
        super().__init__()
        self.embed, self.encoder = nn.Linear(2, 8), nn.LSTM(8, 8)
        self.cell, self.out = nn.LSTMCell(8, 8), nn.Linear(8, 2)

    def forward(self, seen):
        _, (h, c) = self.encoder(self.embed(seen))
        h, c, at, path = h[0], c[0], seen[-1], []
        for _ in range(4):
            h, c = self.cell(self.embed(at), (h, c))
            at = at + self.out(h)
            path.append(at)
        return torch.stack(path)


class PathJudge(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.encoder, self.out = nn.Linear(2, 8), nn.LSTM(8, 8), nn.Linear(8, 1)

    def forward(self, path):
        return self.out(self.encoder(self.embed(path))[1][0][0])


class Frames(nn.Module):
    """(N, T, 8) → video (N, 3, T, 4, 4), its frames made one by one, folded into the batch."""

    def __init__(self):
        super().__init__()
        self.up, self.out = nn.ConvTranspose2d(8, 8, 4), nn.Conv2d(8, 3, 1)

    def forward(self, z):
        return self.out(self.up(z.reshape(-1, 8, 1, 1))).reshape(len(z), -1, 3, 4, 4).transpose(1, 2)


class FrameJudge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 1)

    def forward(self, video):
        h = self.conv(video.transpose(1, 2).flatten(0, 1))
        return self.out(h.mean((2, 3)).reshape(len(video), -1, 6).mean(1))


class VideoJudge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv3d(3, 6, 3, padding=1), nn.Linear(6, 1)

    def forward(self, video):
        return self.out(self.conv(video).mean((2, 3, 4)))


def samples(axis, n=4, time=12, inside=6):
    return torch.randn(*((n, time, inside) if axis == 0 else (time, n, inside)))


FIRST = {"batch_first": True}
CASES = {
    "GRU, batch first": (
        *(lambda: Recurrent(6, 3, **FIRST), lambda: Judge(3, True), [("rnn[0]", "rnn[0]")], 0),
        "8 @ 12 channels last",
    ),
    "GRU, time first": (
        *(lambda: Recurrent(6, 3), lambda: Judge(3, False), [("rnn[0]", "rnn[0]")], 1),
        "8 @ 12 time first",
    ),
    "both directions": (
        *(lambda: Recurrent(6, 3, bidirectional=True), lambda: Judge(3, False), [("rnn[0]", "rnn[0]")], 1),
        "16 @ 12 time first",
    ),
    "GRU's state": (
        *(lambda: Recurrent(6, 3, last=True, **FIRST), lambda: nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1))),
        *([("rnn[1]", "0")], 0, "8 @ 2 time first"),
    ),
    "LSTM's state": (
        *(lambda: Recurrent(6, 3, nn.LSTM, True, **FIRST), lambda: nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1))),
        *([("rnn[1][0]", "0")], 0, "8 @ 2 time first"),
    ),
    "a linear layer": (
        *(lambda: Recurrent(6, 3), lambda: Judge(3, False), [("out", "rnn[0]")], 1),
        "3 @ 12 time first",
    ),
    "response": (lambda: Recurrent(6, 3), lambda: Recurrent(3, 1), [("rnn[0]", "response")], 1, "8 @ 12 time first"),
    "response, batch first": (
        *(lambda: Recurrent(6, 3, **FIRST), lambda: Recurrent(3, 1, **FIRST), [("rnn[0]", "response")], 0),
        "8 @ 12 channels last",
    ),
    "image": (lambda: Recurrent(6, 3), lambda: Judge(3, False), [("rnn[0]", "image")], 1, "8 @ 12 time first"),
    "AST": (
        *(lambda: Recurrent(6, 3), lambda: Recurrent(3, 1), [fbwrap.Link("rnn[0]", module="ast")], 1),
        "8 @ 12 time first",
    ),
    "transformer, time first": (
        *(lambda: Attention(6, 3), lambda: Attention(3, 1, pooled=True), [("body", "body")], 1),
        "16 @ 12 time first",
    ),
    "transformer, batch first": (
        *(lambda: Attention(6, 3, **FIRST), lambda: Attention(3, 1, pooled=True, **FIRST), [("lift", "lift")], 0),
        "16 @ 12 channels last",
    ),
    "transformer, auto": (lambda: Attention(6, 3), lambda: Attention(3, 1, pooled=True), "auto", 1, None),
    "trajectories": (Trajectories, PathJudge, [("cell#2[0]", "embed")], 1, "8 @ vector"),
    "as many steps as samples": (
        *(lambda: Recurrent(6, 3), lambda: Judge(3, False), [("rnn[0]", "rnn[0]")], 1),
        "8 @ 4 time first",
    ),
    "as many steps as samples, batch first": (
        *(lambda: Recurrent(6, 3, **FIRST), lambda: Judge(3, True), [("rnn[0]", "rnn[0]")], 0),
        "8 @ 4 channels last",
    ),
    "one sample": (
        *(lambda: Recurrent(6, 3), lambda: Judge(3, False), [("rnn[0]", "rnn[0]")], 1),
        "8 @ 12 time first",
    ),
    "one step": (
        *(lambda: Recurrent(6, 3), lambda: Judge(3, False), [("rnn[0]", "rnn[0]")], 1),
        "8 @ 1 time first",
    ),
    "frames with videos": (Frames, VideoJudge, [("up", "conv")], 0, "8 @ 5x4x4 frames"),
    "frames with videos, found": (Frames, VideoJudge, "auto", 0, "8 @ 5x4x4 frames"),
    "frames with the video": (Frames, VideoJudge, [("up", "image")], 0, "8 @ 5x4x4 frames"),
    "frames with frames": (Frames, FrameJudge, [("up", "conv")], 0, "8 @ 4x4"),
}


@pytest.mark.parametrize("name", CASES)
def test_no_sample_sees_its_neighbours(name):
    torch.manual_seed(0)
    make_g, make_d, layers, axis, form = CASES[name]
    G, D = make_g().eval(), make_d().eval()
    n = 1 if name == "one sample" else 4
    time = 4 if name.startswith("as many") else 1 if name == "one step" else 5 if "frames" in name else 12
    inside = 2 if "trajectories" in name else 8 if "frames" in name else 6
    x = samples(axis, n, time, inside)
    loop = stir(fbwrap.attach(G, D, layers, example=x, steps=2))
    if form is not None:
        assert str(loop.connections[0].form) == form
    assert not loop.plan.notes or not any("is assumed to be" in note for note in loop.plan.notes)
    more = samples(axis, 5, time, inside)
    with torch.no_grad():
        y = loop(more)
        assert y.shape == G(more).shape
        assert not torch.allclose(y, G(more)), "the head does something"
        rows = y.movedim(axis if y.dim() == 3 else 0, 0)
        for place in range(5):
            alone = loop(more.narrow(axis, place, 1))
            assert torch.allclose(rows[place], alone.movedim(axis if y.dim() == 3 else 0, 0)[0], atol=1e-5)
        mask = torch.tensor([0.0, 1, 0, 0, 0])
        masked = loop.rollout(more, strength=mask).output.movedim(axis if y.dim() == 3 else 0, 0)
        plain = G(more).movedim(axis if y.dim() == 3 else 0, 0)
        if loop.plan.first == "base":
            assert torch.allclose(masked[[0, 2, 3, 4]], plain[[0, 2, 3, 4]], atol=1e-6), "one strength for each sample"
        assert not torch.allclose(masked[1], plain[1])


def test_auto_names_no_layer_rather_than_the_wrong_one():
    """What the encoder returns beside its state goes nowhere, and a cell is called for each step: which is meant must
    be said. A recurrent layer whose features the next layer takes is linked."""
    with pytest.raises(errors.PairingError, match=r"fit for layers='auto'. Name the layers"):
        fbwrap.attach(Trajectories(), PathJudge(), example=samples(1, inside=2))
    loop = fbwrap.attach(Recurrent(6, 3), Judge(3, False), example=samples(1, inside=6))
    assert [str(each.target) for each in loop.connections] == ["rnn[0]"]


@pytest.mark.parametrize("axis", [0, 1])
def test_another_length_works(axis):
    torch.manual_seed(0)
    first = axis == 0
    G, D = Recurrent(6, 3, batch_first=first), Judge(3, first)
    loop = stir(fbwrap.attach(G, D, [("rnn[0]", "rnn[0]")], example=samples(axis)))
    assert loop(samples(axis, 3, 7)).shape == ((3, 7, 3) if first else (7, 3, 3))


def test_heads_of_frames_are_kept(tmp_path):
    torch.manual_seed(0)
    G, z = Frames().eval(), torch.randn(3, 5, 8)
    for D in (VideoJudge().eval(), FrameJudge().eval()):
        loop = stir(fbwrap.attach(G, D, [("up", "conv")], example=z))
        loop.save_pretrained(tmp_path / "head", discriminator="all")
        again = fbwrap.from_pretrained(tmp_path / "head", G, copy.deepcopy(D))
        assert again.connections[0].form == loop.connections[0].form
        assert torch.equal(again(z), loop(z))
        one = torch.tensor([0.0, 1.0, 0.0])
        assert torch.equal(again.rollout(z, strength=one).output, loop.rollout(z, strength=one).output)
        loop.detach()
    loop = fbwrap.attach(G, VideoJudge().eval(), [("up", "conv")], example=z)
    for length in (3, 10):
        with pytest.raises(errors.PairingError, match=f"{3 * length} frames in a batch are no videos of 5 frames"):
            loop(torch.randn(3, length, 8))
    assert torch.equal(loop(z), G(z))


def test_what_is_not_of_one_sample_is_refused():
    torch.manual_seed(0)
    z = torch.randn(2, 5, 8)
    for example in (z, z[:1]):
        with pytest.raises(errors.PairingError, match=r"'image' has . samples .* folded into its batch"):
            fbwrap.attach(Frames(), None, fbwrap.Link("up", "image", target_layout="channels_first"), example=example)

    class Mixing(nn.Module):
        """Answers once for the batch."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(6, 4, 1)

        def forward(self, y):
            return self.conv(y.mean(0, keepdim=True).transpose(1, 2)).transpose(1, 2)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Mixing()
            self.side, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, z):
            return self.out(self.side(z)) + self.body(z).mean()

    with pytest.raises(errors.PairingError, match=r"batch axis of G's layer 'body'.*'time_first' \(T, N, C\)"):
        fbwrap.attach(Plain(), None, [("body", "image")], example=torch.randn(4, 12, 6))


def test_what_no_layer_tells_is_said_and_can_be_said_otherwise():
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 8))

        def forward(self, z):
            return z @ self.weight

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Opaque(), nn.Parameter(torch.randn(8, 3))

        def forward(self, z):
            return self.a(z) @ self.b

    x = samples(0)
    loop = fbwrap.attach(Net(), None, ["a"], example=x)
    assert str(loop.connections[0].form) == "12 @ 8"
    assert any("is assumed to be" in note and "target_layout='channels_last'" in note for note in loop.plan.notes)
    loop = fbwrap.attach(Net(), None, [fbwrap.Link("a", "image", target_layout="channels_last")], example=x)
    assert str(loop.connections[0].form) == "8 @ 12 channels last"
    assert not any("'a'" in note for note in loop.plan.notes)
    with pytest.raises(errors.SettingError, match="'time_first'"):
        fbwrap.Link("a", target_layout="last")


def test_a_head_of_a_time_first_pair_comes_back(tmp_path):
    torch.manual_seed(0)
    G, D, x = Recurrent(6, 3), Judge(3, False), samples(1)
    loop = stir(fbwrap.attach(G, D, [("rnn[0]", "rnn[0]"), ("out", "image")], example=x))
    loop.save_pretrained(tmp_path)
    again = fbwrap.from_pretrained(tmp_path, G, D)
    assert [str(c.form) for c in again.connections] == [str(c.form) for c in loop.connections]
    assert torch.equal(again(x), loop(x))


def test_convolutions_are_taken_as_they_are_without_a_trial(monkeypatch):
    from zoo import ZOO

    from fbwrap.feedback.batch_axis import BatchAxes

    monkeypatch.setattr(BatchAxes, "_tried", lambda *a: pytest.fail("nothing is in doubt"))
    for name in ("dcgan", "dcgan_auto", "one_dim", "three_dim", "unet", "vector", "labels"):
        ZOO[name].build()
