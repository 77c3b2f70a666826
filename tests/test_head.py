"""Heads on disk: bit for bit, or one clear error and nothing changed."""

import copy
import json
import os

import pytest
import torch
from helpers import clone, same, state, stir
from safetensors.torch import load_file
from torch import nn
from zoo import ZOO, Mine

import fbwrap
from fbwrap.errors import HeadError


def test_round_trip(case, tmp_path):
    G, D, args, loop = case.build()
    stir(loop)
    loop.strength, loop.steps = 0.7, 2
    loop[0].strength = 0.9
    loop.save_pretrained(tmp_path / "head", trained_on={"data": "noise"})
    again = fbwrap.from_pretrained(tmp_path / "head", copy.deepcopy(G), copy.deepcopy(D))
    assert (again.strength, again.steps, again[0].strength) == (0.7, 2, 0.9)
    assert [str(c) for c in again.connections] == [str(c) for c in loop.connections]
    outputs = []
    for one in (loop, again):
        torch.manual_seed(3)
        y = one(*clone(args))
        outputs.append(y if isinstance(y, torch.Tensor) else y[0])
    assert torch.equal(*outputs)
    assert again.facts.trained_on == {"data": "noise"}


@pytest.fixture
def saved(tmp_path):
    G, D, args, loop = ZOO["dcgan"].build()
    stir(loop).save_pretrained(tmp_path / "head")
    return tmp_path / "head", G, D, args, loop


def test_d_is_shipped_when_it_differs_and_only_its_part(saved, tmp_path):
    folder, G, D, args, loop = saved
    assert not (folder / "discriminator.safetensors").exists()
    other = copy.deepcopy(D)
    with torch.no_grad():
        [p.add_(0.1) for p in other.parameters()]
    loop.use_discriminator(other)
    y = loop(*args)
    loop.save_pretrained(folder)
    part = load_file(folder / "discriminator.safetensors")
    assert {key.split(".")[0] for key in part} == {"0", "2", "3"}, "nothing behind the last tap"
    before = state(G, D)
    again = fbwrap.from_pretrained(folder, G, D)
    assert torch.equal(again(*args), y)
    assert same(before, state(G, D)), "the given D stays as it is"
    again.save_pretrained(tmp_path / "copy")
    assert torch.equal(fbwrap.from_pretrained(tmp_path / "copy", G, D)(*args), y)
    loop.save_pretrained(folder, discriminator="all")
    assert set(load_file(folder / "discriminator.safetensors")) == set(D.state_dict())
    loop.save_pretrained(folder, discriminator="none")
    assert not (folder / "discriminator.safetensors").exists()


@pytest.mark.parametrize("name", ["old_spectral_norm", "spectral_norm", "weight_norm", "labels", "list_of_responses"])
def test_a_shipped_d_of_any_kind(name, tmp_path):
    G, D, args, loop = ZOO[name].build()
    G.eval()
    D.eval()
    stir(loop)
    other = copy.deepcopy(D)
    with torch.no_grad():
        [p.mul_(1.3) for p in other.parameters()]
    loop.use_discriminator(other)
    y = loop(*clone(args))
    loop.save_pretrained(tmp_path)
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D)(*clone(args)), y)


def edit(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = value
    path.write_text(json.dumps(config))


def edit_link(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, links=[{**link, **changes} for link in config["links"]])


DAMAGE = {
    "no folder": (lambda f: f.rename(f.with_name("gone")), "no such folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "not json": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "not utf-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), "damaged"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "not the config"),
    "foreign": (lambda f: edit(f, format="peft"), "not the config of an fbwrap head"),
    "newer": (lambda f: edit(f, version=99), "Upgrade fbwrap"),
    "version is text": (lambda f: edit(f, version="1"), "Upgrade fbwrap"),
    "key missing": (lambda f: edit(f, links=None), "'links' is missing"),
    "wrong kind": (lambda f: edit(f, steps="two"), "'steps' is 'two', which no head has"),
    "link without target": (
        lambda f: edit(f, links=[{"module": {"kind": "dual"}, "own_module": False}]),
        "'target' of link 0 is missing",
    ),
    "unknown module": (
        lambda f: edit_link(f, module={"kind": "os.system"}),
        "unknown feedback module 'os.system'",
    ),
    "file elsewhere": (lambda f: edit(f, files={"../../etc/passwd": {}}), "no head has"),
    "no tensors": (lambda f: (f / "feedback.safetensors").unlink(), "missing"),
    "truncated": (lambda f: os.truncate(f / "feedback.safetensors", 1000), "damaged or belongs to another head"),
    "flipped byte": (
        lambda f: (f / "feedback.safetensors").write_bytes((f / "feedback.safetensors").read_bytes()[:-1] + b"\x7f"),
        "damaged or belongs to another head",
    ),
    "pickle": (lambda f: torch.save({}, f / "feedback.safetensors"), "damaged or belongs to another head"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_raises_one_clear_error_and_changes_nothing(saved, damage):
    folder, G, D, *_ = saved
    before = state(G, D)
    break_it, message = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(HeadError, match=message):
        fbwrap.from_pretrained(folder, G, D)
    assert same(before, state(G, D))


def test_other_tensors_under_a_right_hash(saved):
    """A config edited together with its tensors is still refused by strict loading."""
    from hashlib import sha256

    from safetensors.torch import save_file

    folder, G, D, *_ = saved
    path = folder / "feedback.safetensors"
    for content, message in (({"x": torch.ones(2)}, "do not fit"), (None, "cannot be read")):
        if content is None:
            path.write_bytes(b"\x80\x02}q\x00." * 20)
        else:
            save_file(content, path)
        raw = path.read_bytes()
        edit(folder, files={path.name: {"bytes": len(raw), "sha256": sha256(raw).hexdigest()}})
        with pytest.raises(HeadError, match=message):
            fbwrap.from_pretrained(folder, G, D)


def test_another_base_is_refused(saved):
    folder, G, D, args, loop = saved
    other = copy.deepcopy(G)
    with torch.no_grad():
        other.main[0].weight.add_(0.1)
    with pytest.raises(HeadError, match="strict=False"):
        fbwrap.from_pretrained(folder, other, D)
    fbwrap.from_pretrained(folder, other, D, strict=False)(*args)
    wider = nn.Sequential(nn.ConvTranspose2d(6, 9, 4))
    for strict in (True, False):
        with pytest.raises(HeadError, match="another generator"):
            fbwrap.from_pretrained(folder, wider, D, strict=strict)
        with pytest.raises(HeadError, match="another discriminator"):
            fbwrap.from_pretrained(folder, G, nn.Conv2d(3, 1, 3), strict=strict)
    with pytest.raises(HeadError, match="Pass it"):
        fbwrap.from_pretrained(folder, G)


def test_functions_and_own_modules_must_be_given_again(tmp_path):
    def ask(output, *inputs):
        return output * 2

    G, D, args, _ = ZOO["glob"].build()
    loop = fbwrap.attach(
        G, D, [("body.1", "response")], module=Mine, critic_input=ask, response=torch.tanh, example=args
    )
    loop.save_pretrained(tmp_path)
    given = {"critic_input": ask, "response": torch.tanh, "modules": {"Mine": Mine}}
    for missing in given:
        with pytest.raises(HeadError, match=missing):
            fbwrap.from_pretrained(tmp_path, G, D, **{k: v for k, v in given.items() if k != missing})
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D, **given)(*args), loop(*args))


def test_saving_is_whole_or_not_at_all(saved, monkeypatch):
    folder, G, D, args, loop = saved
    (folder / "README.md").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stir(loop, seed=9)

    def full(*a, **k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(HeadError, match="No space left"):
        loop.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    loop.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {*before}
    assert torch.equal(fbwrap.from_pretrained(folder, G, D)(*args), loop(*args))


def test_a_folder_that_cannot_be_written(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadError, match="could not be written"):
        saved[4].save_pretrained(tmp_path / "file")


def test_config_holds_no_code_and_no_paths(saved):
    text = (saved[0] / "config.json").read_text()
    assert "fbwrap." not in text
    assert "/" not in text.replace("image/", "")


def test_a_head_with_the_beginning_of_its_d_tells_no_response(tmp_path):
    """What feedback needs is there; D's answer would be half of one D and half of another."""
    from zoo import Deconv, patch

    torch.manual_seed(0)
    G, D, z = Deconv().eval(), patch().eval(), torch.randn(2, 6, 1, 1)
    loop = stir(fbwrap.attach(G, D, [("main.5", "1")], example=z))
    trained = stir(copy.deepcopy(D))
    loop.use_discriminator(trained)
    loop.save_pretrained(tmp_path / "part")
    loop.save_pretrained(tmp_path / "all", discriminator="all")
    part, whole = (fbwrap.from_pretrained(tmp_path / name, G, D) for name in ("part", "all"))
    with torch.no_grad():
        assert torch.equal(part(z), loop(z))
        assert torch.equal(whole.rollout(z).responses[1], loop.rollout(z).responses[1])
        with pytest.raises(HeadError, match="discriminator='all'"):
            part.rollout(z).responses  # noqa: B018
        with pytest.raises(HeadError, match="all of D cannot be saved"):
            part.save_pretrained(tmp_path / "again", discriminator="all")
        part.use_discriminator(trained)
        assert torch.equal(part.rollout(z).responses[1], loop.rollout(z).responses[1])
