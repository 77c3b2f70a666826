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
