"""Feedback modules and signals: shapes in 0 to 3 dimensions, zero start, sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fbwrap.engine.flops import FlopCounter
from fbwrap.errors import PairingError, SettingError
from fbwrap.feedback.blocks import INITS, NORMS
from fbwrap.feedback.features import FeatureSpec, broadcast, feature_spec_of, from_map, resize, to_map
from fbwrap.feedback.modules import KINDS, build

SIZES = {0: (), 1: (12,), 2: (6, 4), 3: (4, 4, 2)}


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_module_in_every_dimension(kind, dims):
    for norm in NORMS:
        for init in INITS:
            torch.manual_seed(0)
            feature, signals = (
                FeatureSpec(8, SIZES[dims]),
                (FeatureSpec(5, tuple(2 * n for n in SIZES[dims])), FeatureSpec(3, SIZES[dims])),
            )
            module = build({"kind": kind, "norm": norm, "init": init}, feature, signals).train()
            phi = torch.randn(2, 8, *SIZES[dims])
            given = [torch.randn(2, s.channels, *s.spatial) for s in signals]
            if module.resize_signals:
                given = [resize(s, SIZES[dims]) for s in given]
            correction = module(phi, *given)
            assert correction.shape == phi.shape
            assert bool((correction == 0).all()) == (init == "zero")
            (correction * torch.randn_like(correction)).sum().backward()
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_options_count():
    form = (FeatureSpec(16, (8, 8)), (FeatureSpec(8, (8, 8)),))
    convs = [
        sum(isinstance(m, nn.Conv2d) for m in build({"kind": "dual", "convs": n}, *form).modules()) for n in (1, 2, 3)
    ]
    assert convs == [1, 2, 3]
    hidden = build({"kind": "basic", "hidden": 4}, *form)
    assert hidden.body[0].weight.shape == (4, 8, 3, 3)
    sizes = {k: sum(p.numel() for p in build(k, *form).parameters()) for k in ("dual", "light")}
    assert sizes["light"] < sizes["dual"] / 8


@pytest.mark.parametrize("kind", ["ast", "film", "concat", "add"])
def test_scale_is_of_the_response_alone(kind):
    """A Wasserstein critic's response at 1/32 is a module that is given so much of it, image as it was."""
    forms = FeatureSpec(8, (4, 4)), (FeatureSpec(3, (16, 16)), FeatureSpec(1, (4, 4)))
    plain, scaled = (build({"kind": kind, "init": "paper", **more}, *forms) for more in ({}, {"scale": 1 / 32}))
    scaled.load_state_dict(plain.state_dict())
    h, image, response = torch.randn(2, 8, 4, 4), torch.randn(2, 3, 16, 16), 100 * torch.randn(2, 1, 4, 4)
    assert torch.equal(scaled(h, image, response), plain(h, image, response / 32))
    assert not torch.allclose(scaled(h, image, response), plain(h, image, response))


def test_fit_is_interpolation_or_area():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(resize(x, (8, 8)), F.interpolate(x, size=(8, 8), mode="bilinear", align_corners=False))
    assert torch.equal(resize(x, (2, 2)), F.avg_pool2d(x, 2))
    assert torch.equal(resize(x, ()), x.mean((2, 3)))
    assert torch.equal(resize(x.mean((2, 3)), (5, 6))[..., 2, 3], x.mean((2, 3)))
    assert torch.equal(resize(torch.randn(2, 3, 5, 2), (10,)).shape and resize(x, (16,)), x.flatten(2))
    assert resize(torch.randn(2, 3, 16), (4, 4)).shape == (2, 3, 4, 4)
    assert resize(x, (2, 4, 4)).shape == (2, 3, 2, 4, 4)
    assert resize(torch.randn(2, 3, 4, 4, 4), (8, 2)).shape == (2, 3, 8, 2)


@pytest.mark.parametrize(
    ("shape", "layout", "dims", "spatial"),
    [
        ((2, 17, 8), "channels_last", 2, (4, 4)),
        ((2, 16, 8), "channels_last", 2, (4, 4)),
        ((2, 21, 8), "channels_last", 2, (4, 4)),
        ((2, 16, 8), "channels_last", 1, (16,)),
        ((2, 12, 8), "channels_last", 2, (12,)),
        ((2, 4, 6, 8), "channels_last", 2, (4, 6)),
        ((2, 8, 12), "channels_first", 1, (12,)),
        ((2, 8), "channels_first", 2, ()),
    ],
)
def test_layouts_there_and_back(shape, layout, dims, spatial):
    form = feature_spec_of(shape, layout, dims)
    x = torch.randn(shape)
    mapped = to_map(x, form)
    assert mapped.shape == (2, 8, *spatial)
    back = from_map(mapped, form, x)
    extra = form.tokens[0] if form.tokens else 0
    assert torch.equal(back[:, extra:], x[:, extra:])
    assert bool((back[:, :extra] == 0).all())


def test_spread():
    x = torch.randn(2, 3, 4, 6)
    assert broadcast(0.5, x, 2) == 0.5
    assert broadcast(torch.tensor([1.0, 2.0]), x, 2).shape == (2, 1, 1, 1)
    for shape in ((8, 12), (2, 8, 12), (2, 1, 8, 12)):
        assert broadcast(torch.ones(shape), x, 2).shape[-3:] == (1, 4, 6)
    assert broadcast(torch.tensor(2.0), x, 2) == 2


@pytest.mark.parametrize("batch", [1, 3, 4, 5])
def test_what_a_strength_means_does_not_depend_on_the_batch(batch):
    vector, map_ = torch.zeros(batch, 8), torch.zeros(batch, 8, 4, 4)
    mask = torch.zeros(4, 4)
    mask[0] = 1  # (H, W) of a square picture, as many rows as a batch may have
    assert broadcast(mask, vector, 2).flatten().tolist() == [0.25]
    assert broadcast(mask, map_, 2).shape == (1, 1, 4, 4)
    each = torch.arange(batch).float()
    for shape in ((batch,), (batch, 1), (batch, 1, 1), (batch, 1, 1, 1)):
        assert broadcast(each.view(shape), vector, 2).flatten().tolist() == each.tolist()
        assert torch.equal(broadcast(each.view(shape), map_, 2).expand(-1, -1, 4, 4)[:, 0, 0, 0], each)
    masks = each.view(-1, 1, 1).expand(-1, 4, 4)
    assert broadcast(masks, vector, 2).flatten().tolist() == each.tolist()
    line = torch.zeros(batch, 3, 6)
    assert broadcast(each, line, 1).shape == (batch, 1, 1), "one dimension is the samples', of a sound too"
    assert broadcast(torch.ones(batch, 6), line, 1).shape == (batch, 1, 6)
    assert broadcast(each.view(-1, 1), vector, 0).flatten().tolist() == each.tolist()
    frames = broadcast(each, torch.zeros(2 * batch, 8), 2, rows=2)
    assert isinstance(frames, torch.Tensor)
    assert frames.expand(2 * batch, 1).flatten().tolist() == each.repeat_interleave(2).tolist()
    for wrong in (torch.ones(2, 3, 4, 4), torch.ones(1, 1, 1, 4, 4), torch.ones(2, 3, 1, 4)):
        with pytest.raises(PairingError, match=r"one value per sample \(N,\), or a mask \(H, W\)"):
            broadcast(wrong, map_, 2)
    with pytest.raises(PairingError, match=f"for {batch + 1} samples"):
        broadcast(torch.ones(batch + 1), map_, 2)


def test_pyramid_joins_signals_at_their_own_size():
    feature = FeatureSpec(8, (13, 13))
    signals = (FeatureSpec(3, (14, 14)), FeatureSpec(5, (7, 7)), FeatureSpec(6, (4, 4)))
    module = build({"kind": "pyramid", "init": "paper"}, feature, signals)
    sizes = []
    for layer in (*module.levels, module.last.body):
        layer[0].register_forward_hook(lambda m, a, y: sizes.append((tuple(a[0].shape[1:]), y.shape[1])))
    given = [torch.randn(2, s.channels, *s.spatial) for s in signals]
    assert module(torch.randn(2, 8, 13, 13), *given).shape == (2, 8, 13, 13)
    assert sizes == [((6 + 8, 4, 4), 16), ((16 + 5 + 8, 7, 7), 12), ((12 + 3 + 8, 13, 13), 8)]


def test_fpn_has_a_level_for_each_size():
    """Channels double as the side halves; features of one size share a level; a vector is a level of one position."""
    feature = FeatureSpec(16, (13, 13))
    sizes = (14, 14), (7, 7), (6, 6), (3, 3), ()
    signals = tuple(FeatureSpec(3 + i, size) for i, size in enumerate(sizes))
    module = build({"kind": "fpn", "init": "paper"}, feature, signals).train()
    seen = []
    for merge in module.merge:
        merge.register_forward_hook(lambda m, a, y: seen.append(tuple(y.shape[1:])))
    given = [torch.randn(2, s.channels, *s.spatial) for s in signals]
    assert module(torch.randn(2, 16, 13, 13), *given).shape == (2, 16, 13, 13)
    assert seen == [(64, 1, 1), (32, 3, 3), (16, 7, 7), (8, 13, 13)]
    assert [len(level) for level in module.lateral] == [2, 3, 4, 3], "found, signals, feature"
    one = build({"kind": "fpn", "ratio": 1}, feature, signals)
    assert one.merge[-1][0].num_features == 16
    with pytest.raises(SettingError, match="ratio=0: pass 1 or more"):
        build({"kind": "fpn", "ratio": 0}, feature, signals)


def test_fpn_projects_the_smaller_map():
    """Resizing and a 1x1 convolution commute: the smaller map is convolved, and the result is that of either order."""
    from fbwrap.feedback.pyramids import _projected

    layer, seen = nn.Conv2d(3, 5, 1), []
    layer.register_forward_hook(lambda m, a, y: seen.append(tuple(a[0].shape[2:])))
    for have, want in (((4, 4), (8, 8)), ((9, 9), (3, 3)), ((8, 8), (8, 8))):
        x = torch.randn(2, 3, *have)
        expected = resize(layer(x), want)
        assert torch.allclose(_projected(layer, x, want), expected, atol=1e-6)
    assert seen[1::2] == [(4, 4), (3, 3), (8, 8)]


def test_fpn_is_cheap():
    """A fifth of the FLOPs of a pyramid of the same layers, at most."""
    feature, signals = FeatureSpec(64, (32, 32)), tuple(FeatureSpec(64 * 2**i, (32 >> i, 32 >> i)) for i in range(3))
    flops = {}
    for kind in ("pyramid", "fpn"):
        module = build(kind, feature, signals).eval()
        with FlopCounter() as counter:
            module(torch.zeros(1, 64, 32, 32), *(torch.zeros(1, s.channels, *s.spatial) for s in signals))
        flops[kind] = counter.total
    assert flops["fpn"] < flops["pyramid"] / 5
