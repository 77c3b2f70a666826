"""Heads whose config or files somebody changed, or that were cut off while written; and what a head keeps."""

import contextlib
import copy
import json
import os

import pytest
import torch
from helpers import stir
from small import Codec, X, attach, pair, tiny_critic
from torch import nn

import fbwrap
from fbwrap import errors
from fbwrap.errors import SettingError


def test_heads_keep_their_dtype_and_how_signals_flow(tmp_path):
    G, D = pair()
    loop = attach(G, D, detach_signals=False).to(torch.bfloat16)
    loop.save_pretrained(tmp_path)
    again = fbwrap.from_pretrained(tmp_path, G, D)
    assert again.detach_signals is False
    assert torch.equal(again(X), loop(X))


class Fused(nn.Module):
    """D whose layers are used without being called: attention, a fast path, a functional call."""

    def __init__(self):
        super().__init__()
        self.embed, self.attend = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.plain, self.tail, self.mark = nn.Linear(8, 8), nn.Linear(8, 1), nn.Identity()

    def forward(self, x):
        h = self.embed(x).flatten(2).transpose(1, 2)
        h = self.block(self.attend(h, h, h)[0])
        h = nn.functional.linear(h, self.plain.weight)
        return self.tail(self.mark(h)).mean((1, 2))


def test_a_shipped_d_holds_layers_that_are_used_without_a_call(tmp_path):
    G, _ = pair()
    D = Fused().eval()
    loop = stir(fbwrap.attach(G, D, [("body.1", "mark")], example=X))
    other = copy.deepcopy(D)
    with torch.no_grad():
        [p.mul_(1.2) for p in other.parameters()]
    loop.use_discriminator(other)
    y = loop(X)
    loop.save_pretrained(tmp_path)
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D)(X), y)
    from safetensors.torch import load_file

    assert not any(key.startswith("tail") for key in load_file(tmp_path / "discriminator.safetensors"))


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_save_that_fails_halfway_leaves_the_old_head_or_the_new(tmp_path, monkeypatch, at):
    G, D = pair()
    loop = attach(G, D)
    loop.save_pretrained(tmp_path, discriminator="all")
    y = loop(X)
    real, calls = os.replace, []

    def failing(a, b):
        calls.append(b)
        if len(calls) >= at:
            raise OSError("disk gone")
        real(a, b)

    stir(loop, seed=8)
    new = loop(X)
    monkeypatch.setattr(os, "replace", failing)
    if at == 1:  # the files were not ready: the old head stays
        with pytest.raises(errors.HeadError, match="disk gone"):
            loop.save_pretrained(tmp_path, discriminator="all")
    else:  # they were: the head is the new one, wherever its files lie
        loop.save_pretrained(tmp_path, discriminator="all")
    monkeypatch.undo()
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D)(X), y if at == 1 else new)
    loop.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "feedback.safetensors"]
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D)(X), new)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("example", [5]),
        ("example", []),
        ("example", [[{"shape": [2], "dtype": "zz"}], {}]),
        ("links", [None]),
        ("links", []),
        ("steps", -3),
        ("strength", float("nan")),
        ("first", "never"),
        ("critic_mode", "x"),
        ("generator", {}),
        ("files", {"feedback.safetensors": None}),
    ],
)
def test_any_mutation_of_a_config_is_a_head_error(tmp_path, key, value):
    G, D = pair()
    attach(G, D).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(errors.HeadError):
        fbwrap.from_pretrained(tmp_path, G, D)


def test_any_mutation_of_a_link_is_a_head_error(tmp_path):
    G, D = pair()
    attach(G, D).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for key in json.loads(text)["links"][0]:
        for value in (None, 7, [], {"kind": "dual", "convs": "x"}, "nope"):
            config = json.loads(text)
            config["links"][0][key] = value
            (tmp_path / "config.json").write_text(json.dumps(config))
            with contextlib.suppress(errors.HeadError):  # the only error that may come
                fbwrap.from_pretrained(tmp_path, G, D)


def test_another_architecture_of_d_is_refused_by_name():
    loop = attach(*pair())
    loop.use_discriminator(nn.Conv2d(3, 1, 3))
    with pytest.raises(errors.CriticError, match="no layer '1'"):
        loop(X)


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


def test_a_strangers_head_calls_no_method_of_its_choice(tmp_path):
    import json

    from fbwrap.errors import HeadError

    net, D = Codec(), tiny_critic()
    net.save_pretrained = lambda where: (tmp_path / "written").write_text("x")
    loop = fbwrap.attach(net, D, [("mid", "1")], example=torch.randn(1, 4, 4, 4), method="decode")
    loop.save_pretrained(tmp_path / "head")
    path = tmp_path / "head" / "config.json"
    with pytest.raises(HeadError, match=r"fbwrap does not know this G.*method='decode'"):
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
    with pytest.raises(SettingError, match=r"method of every nn\.Module"):
        fbwrap.attach(net, D, example=torch.randn(1, 4, 4, 4), method="double")
