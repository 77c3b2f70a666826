"""Other people's weights files: found wherever they are, and never run."""

import collections
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fbwrap
from fbwrap.errors import WeightsError
from fbwrap.weights import read_weights


def net(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def state(model, prefix=""):
    return {prefix + key: value.clone() for key, value in model.state_dict().items()}


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def trained():
    model = net()
    with torch.no_grad():
        [p.normal_() for p in model.parameters()]
    model[1].running_mean.normal_()
    return model


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda s, o: s(), '"top level"'),
        (lambda s, o: {"params": s()}, '"params"'),
        (lambda s, o: {"params": o(), "params_ema": s()}, '"params_ema"'),
        (lambda s, o: {"state_dict": s("module."), "epoch": 3}, '"state_dict", prefix "module."'),
        (lambda s, o: {"netG": s(), "netD": {"0.weight": torch.zeros(9)}}, '"netG"'),
        (lambda s, o: {"state_dict": {**s("netG.module."), **o("netD.")}}, '"state_dict", prefix "netG.module."'),
        (lambda s, o: {"a": {"b": s("generator.")}}, '"a/b", prefix "generator."'),
        (lambda s, o: collections.OrderedDict(s("_orig_mod.")), '"top level", prefix "_orig_mod."'),
    ],
)
def test_found_wherever_they_are(trained, tmp_path, wrap, found):
    other = net(5)
    torch.save(wrap(lambda p="": state(trained, p), lambda p="": state(other, p)), tmp_path / "w.pth")
    fresh = net()
    assert repr(fbwrap.load_weights(fresh, tmp_path / "w.pth")) == found
    assert equal(fresh, trained)
    fresh = nn.DataParallel(net())
    fbwrap.load_weights(fresh, tmp_path / "w.pth")
    assert equal(fresh.module, trained)


def test_an_average_comes_before_the_weights_unless_asked_for(trained, tmp_path):
    other = net()
    torch.save({"params": state(trained), "params_ema": state(other)}, tmp_path / "w.pth")
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.pth")
    assert equal(fresh, other)
    fbwrap.load_weights(fresh, tmp_path / "w.pth", key="params")
    assert equal(fresh, trained)


def test_safetensors(trained, tmp_path):
    save_file(state(trained, "module."), tmp_path / "w.safetensors")
    fresh = net()
    assert fbwrap.load_weights(fresh, tmp_path / "w.safetensors").prefix == "module."
    assert equal(fresh, trained)


def test_old_files_without_counters_load(trained, tmp_path):
    old = {key: value for key, value in state(trained).items() if "num_batches" not in key}
    torch.save(old, tmp_path / "w.pth")
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.pth")
    assert torch.equal(fresh[0].weight, trained[0].weight)


def test_a_file_that_needs_code_is_refused_with_the_reason(tmp_path):
    mark = tmp_path / "ran"

    class Bad:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    torch.save({"state_dict": state(net()), "args": Bad()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"would run code .*system.*It is not read.*state_dict"):
        read_weights(tmp_path / "w.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no weights file"),
        (lambda path: path.write_bytes(b"nonsense"), "cannot be read as weights|would run code"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights in it"),
        (lambda path: torch.save(state(net(5)), path), r"other shapes for 0\.weight \(5, 3, 3, 3\) instead of \(4, "),
        (
            lambda path: torch.save({"x": torch.zeros(3)}, path),
            r"it lacks 0\.weight, 0\.bias, 1\.weight …, and holds x",
        ),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_changed(tmp_path, make, message):
    make(tmp_path / "w.pth")
    model = net()
    before = state(model)
    with pytest.raises(WeightsError, match=message):
        fbwrap.load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_no_missing_weight_hides_behind_a_counter(tmp_path):
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))
    part = {key: value for key, value in state(model).items() if key not in ("0.weight", "2.weight")}
    torch.save(part, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"it lacks 0\.weight, 2\.weight"):
        fbwrap.load_weights(model, tmp_path / "w.pth")
    whole = {**state(model), "1.num_batches_tracked": torch.zeros(4), "0.weight": torch.zeros(3, 3, 1, 1)}
    torch.save(whole, tmp_path / "w.pth")
    fbwrap.load_weights(model, tmp_path / "w.pth")
    assert not model[0].weight.any()


# -- which of several ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "average", ["params_ema", "netG_ema", "generator_smooth", "G_running", "shadow", "avg_G", "Gema"]
)
def test_averages_come_first_whatever_they_are_called(trained, tmp_path, average):
    torch.save({"generator": state(net()), average: state(trained)}, tmp_path / "w.pth")
    fresh = net()
    assert fbwrap.load_weights(fresh, tmp_path / "w.pth").keys == (average,)
    assert equal(fresh, trained)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: {"netG_A": a(), "netG_B": b()},
        lambda a, b: {**a("G."), **b("GE.")},
        lambda a, b: {"GAN": {**a("G."), **b("GE.")}},
        lambda a, b: {"ema_1": a(), "ema_2": b()},
    ],
)
def test_of_two_that_differ_neither_is_taken_by_chance(trained, tmp_path, wrap):
    other = net()
    torch.save(wrap(lambda p="": state(trained, p), lambda p="": state(other, p)), tmp_path / "w.pth")
    fresh = net()
    before = state(fresh)
    with pytest.raises(WeightsError, match=r"several weights that fit, and they differ: .*key=, or FILE#KEY") as caught:
        fbwrap.load_weights(fresh, tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    key = str(caught.value).split("such as '")[1].split("'")[0]
    fbwrap.load_weights(fresh, tmp_path / "w.pth", key=key)
    assert equal(fresh, trained) or equal(fresh, other)
    again = net()
    fbwrap.load_weights(again, f"{tmp_path / 'w.pth'}#{key}")
    assert equal(again, fresh)
    with pytest.raises(WeightsError, match="holds no weights under 'nothing'"):
        fbwrap.load_weights(fresh, tmp_path / "w.pth", key="nothing")


def test_two_that_are_alike_are_one(trained, tmp_path):
    torch.save({"a": state(trained), "b": state(trained)}, tmp_path / "w.pth")
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.pth")
    assert equal(fresh, trained)


def test_words_that_hold_the_letters_are_no_averages(trained, tmp_path):
    torch.save({"generator": state(net()), "schema": state(trained)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="several weights that fit"):
        fbwrap.load_weights(net(), tmp_path / "w.pth")


# -- whatever torch's own strict loading accepts ------------------------------------------------------
class Extra(nn.Linear):
    def get_extra_state(self):
        return {"scale": 2.0}

    def set_extra_state(self, value):
        self.scale = value["scale"]


def test_extra_state_and_wrappers_anywhere_in_a_name(tmp_path):
    one, two = nn.Sequential(Extra(2, 3), nn.Linear(3, 1)), nn.Sequential(Extra(2, 3), nn.Linear(3, 1))
    torch.save(one.state_dict(), tmp_path / "w.pth")
    fbwrap.load_weights(two, tmp_path / "w.pth")
    assert two[0].scale == 2.0
    inner = {name.replace("1.", "1._orig_mod."): v for name, v in one.state_dict().items()}
    torch.save(inner, tmp_path / "inner.pth")
    three = nn.Sequential(Extra(2, 3), nn.Linear(3, 1))
    fbwrap.load_weights(three, tmp_path / "inner.pth")
    assert torch.equal(three[1].weight, one[1].weight)
    compiled = nn.Sequential(Extra(2, 3), torch.compile(nn.Linear(3, 1)))
    fbwrap.load_weights(compiled, tmp_path / "w.pth")
    assert torch.equal(compiled[1]._orig_mod.weight, one[1].weight)


def test_weight_norm_of_either_kind(tmp_path):
    old = torch.nn.utils.weight_norm(nn.Linear(2, 3))
    new = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    x = torch.randn(4, 2)
    torch.save(old.state_dict(), tmp_path / "old.pth")
    torch.save(new.state_dict(), tmp_path / "new.pth")
    wanted = old(x), new(x)
    fresh = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    fbwrap.load_weights(fresh, tmp_path / "old.pth")
    torch.testing.assert_close(fresh(x), wanted[0])
    fresh = torch.nn.utils.weight_norm(nn.Linear(2, 3))
    fbwrap.load_weights(fresh, tmp_path / "new.pth")
    torch.testing.assert_close(fresh(x), wanted[1])


def test_absent_buffers_want_a_word(trained, tmp_path):
    held = {name: value for name, value in state(trained).items() if "running" not in name}
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"Only buffers are absent: strict=False loads the rest"):
        fbwrap.load_weights(net(), tmp_path / "w.pth")
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.pth", strict=False)
    assert torch.equal(fresh[0].weight, trained[0].weight)


def test_a_model_without_memory(trained, tmp_path):
    torch.save(state(trained), tmp_path / "w.pth")
    with torch.device("meta"):
        empty = net()
    with pytest.raises(WeightsError, match=r"is on the meta device.*to_empty"):
        fbwrap.load_weights(empty, tmp_path / "w.pth")


# -- what a file is, is told by its beginning ---------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page, not weights"),
        (b"\x1f\x8b\x08\x00rest", "compressed.*gunzip"),
        (b"", "is empty"),
        (b'{"a": 1}', "JSON, not weights, nor an index"),
        (b'{"weight_map": {"a": "../b.safetensors"}}', "outside its folder"),
        (b'{"weight_map": {"a": "b.safetensors"}}', "which is not beside it"),
        (b"some other bytes", "cannot be read as weights.*safetensors and what torch"),
    ],
)
def test_what_is_no_weights_is_said(tmp_path, content, says):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        fbwrap.load_weights(net(), tmp_path / "w.pth")
    assert len(str(caught.value)) < 400


def test_safetensors_under_any_name_and_in_parts(trained, tmp_path):
    import json

    held = state(trained)
    save_file(held, tmp_path / "w.ckpt")
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.ckpt")
    assert equal(fresh, trained)
    names = sorted(held)
    save_file({name: held[name] for name in names[:3]}, tmp_path / "1.safetensors")
    save_file({name: held[name] for name in names[3:]}, tmp_path / "2.safetensors")
    where = {name: "1.safetensors" if name in names[:3] else "2.safetensors" for name in names}
    (tmp_path / "w.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    fresh = net()
    fbwrap.load_weights(fresh, tmp_path / "w.index.json")
    assert equal(fresh, trained)
