"""What a rollout sees, draws, puts back and returns."""

import collections
import copy

import pytest
import torch
from helpers import first, stir
from lookalikes import latent, voxel
from small import X, attach, pair, tiny_critic
from torch import nn
from zoo import ZOO, Residual, Restless, patch

import fbwrap
from fbwrap import errors


def test_reference_at_the_first_step_of_fal():
    G, D = pair()
    loop = attach(G, D, ["body.1"], module="ast")
    other = torch.randn(2, 3, 16, 16)
    assert not torch.equal(loop.rollout(X, steps=1, reference=other).output, loop(X))
    responses = loop.rollout(X, steps=2).responses
    assert bool((responses[0] == 0).all())
    assert responses[0].shape == responses[1].shape


def test_labels_in_any_order_of_keywords():
    G, D, (latent, label), loop = ZOO["labels"].build()
    stir(loop)
    assert torch.equal(loop(y=label, z=latent), loop(latent, label))


def test_outputs_of_unusual_types_in_the_prefix():
    class Odd(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.kind, self.conv = kind, nn.Conv2d(3, 3, 1)

        def forward(self, x):
            h = self.conv(x)
            if self.kind == "max":
                return h.max(1, keepdim=True)
            if self.kind == "default":
                found = collections.defaultdict(list)
                found["values"] = h
                return found
            return collections.UserDict(values=h)

    class Net(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.odd, self.mid = Odd(kind), nn.Conv2d(1 if kind == "max" else 3, 3, 1)

        def forward(self, x):
            found = self.odd(x)
            return self.mid(found.values if hasattr(found, "indices") else found["values"])

    for kind in ("max", "default", "user"):
        G = Net(kind)
        loop = stir(fbwrap.attach(G, patch(), [("mid", "1")], example=torch.randn(2, 3, 16, 16)))
        assert loop(torch.randn(2, 3, 16, 16)).shape == (2, 3, 16, 16)


def test_what_a_module_draws_does_not_shift_what_g_draws():
    class Drawing(fbwrap.FeedbackModule):
        def forward(self, feature, *signals):
            return torch.randn_like(feature) * 0

    G, D, args, _ = ZOO["noise"].build()
    loop = fbwrap.attach(G, D, [("a", "1")], module=Drawing, example=args, steps=2)
    y = loop.rollout(*args).outputs
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], y[2])


def test_g_in_train_mode_is_put_back_when_d_fails():
    G, D, args, loop = ZOO["dcgan_train"].build()
    before = {k: v.clone() for k, v in G.state_dict().items()}
    D[0].register_forward_pre_hook(lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stir(loop)(*args)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())


def test_a_tap_that_is_nan_behind_which_d_fails():
    D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 1))
    nn.init.constant_(D[0].weight, torch.nan)
    with pytest.raises(errors.CriticError, match="NaN"):
        fbwrap.attach(Residual(), D, [("body.1", "0")], example=X)


def test_inference_mode_reference():
    loop = attach(*pair())
    with torch.inference_mode():
        assert loop.rollout(X, reference=torch.randn(2, 3, 16, 16)).output.shape == (2, 3, 16, 16)


def test_reference_replaces_what_d_sees(sr):
    _, D, (x,), loop = sr
    other = torch.randn(3, 3, 16, 16)
    looked = []
    handle = D[0].register_forward_pre_hook(lambda m, a: looked.append(a[0]))
    y = loop.rollout(x, reference=other, steps=3)
    handle.remove()
    assert len(looked) == 1
    assert torch.equal(looked[0], other)
    assert torch.equal(y.outputs[1], y.outputs[3]), "nothing carried: every step sees the same"
    assert not torch.equal(y.output, loop.rollout(x, steps=3).output)


def test_responses_are_d_of_each_output(sr):
    _, D, (x,), loop = sr
    rollout = loop.rollout(x, steps=2)
    for y, r in zip(rollout.outputs, rollout.responses, strict=True):
        assert torch.equal(r, D(y))
        assert not r.requires_grad


def test_control_flow_that_depends_on_data_is_never_wrong():
    """G takes another path than at attach: nothing is replayed that does not fit."""

    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU(True)
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, x):
            if x.mean() > 5:
                x = self.act(self.b(x))
            return self.c(self.act(self.a(x)))

    torch.manual_seed(0)
    G, D, x = Moody(), patch(), torch.randn(2, 3, 16, 16)
    loop = stir(fbwrap.attach(G, D, ["c"], example=x))
    far = stir(fbwrap.attach(G, D, ["c"], example=x + 9))
    far.load_state_dict(loop.state_dict())
    assert torch.equal(loop(x + 9), far(x + 9))
    assert torch.equal(loop(x), stir(fbwrap.attach(G, D, ["c"], example=x))(x))
    with pytest.raises(fbwrap.errors.LayerNotCalledError, match="depends on G's input"):
        stir(fbwrap.attach(G, D, ["b"], example=x + 9))(x)


def test_generator_objects_among_the_inputs_give_the_same_numbers_at_each_step():
    class Drawn(Residual):
        def forward(self, x, generator=None):
            return super().forward(x) + torch.randn(x.shape[0], 3, 16, 16, generator=generator)

    torch.manual_seed(0)
    G, D, x = Drawn(), patch(), torch.randn(2, 3, 8, 8)
    dice = torch.Generator().manual_seed(1)
    loop = fbwrap.attach(G, D, ["body.0"], example={"x": x, "generator": dice}, steps=3)
    dice.manual_seed(1)
    wanted, after = G(x, dice), torch.rand(1, generator=dice)
    dice.manual_seed(1)
    assert torch.equal(loop(x=x, generator=dice), wanted)
    assert torch.equal(torch.rand(1, generator=dice), after)


def test_another_size_than_the_example():
    for name in ("glob", "ast", "film"):
        G, D, args, loop = ZOO[name].build()
        stir(loop)
        big = (torch.randn(2, 3, 24, 16),)
        y = loop(*big)
        assert y.shape == G(*big).shape
        assert torch.isfinite(first(y)).all()


def test_labels_as_keyword():
    G, D, (latent, label), loop = ZOO["labels"].build()
    stir(loop)
    assert torch.equal(loop(latent, y=label), loop(latent, label))


def test_d_that_shares_layers_with_g():
    """As in autoencoding GANs: D's calls of a shared layer are not G's."""

    class Sharing(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.shared, self.own = conv, nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, x):
            return self.own(self.shared(x))

    torch.manual_seed(0)
    G, x = Residual(), torch.randn(2, 3, 8, 8)
    D = Sharing(G.head)
    for layers in ([("body.1", "own")], [("head", "shared")]):
        loop = stir(fbwrap.attach(G, D, layers, example=x))
        twin = Residual()
        twin.load_state_dict(G.state_dict())
        apart = fbwrap.attach(twin, copy.deepcopy(D), layers, example=x)
        apart.load_state_dict(loop.state_dict())
        for steps in (1, 3):
            loop.steps = apart.steps = steps
            assert torch.equal(loop(x), apart(x))


def test_what_a_g_moves_in_eval_mode_is_put_back():
    torch.manual_seed(0)
    G, D, x = Restless(Residual()).eval(), patch(), torch.randn(2, 3, 8, 8)
    twin, before = copy.deepcopy(G), copy.deepcopy(G.state_dict())
    loop = stir(fbwrap.attach(G, D, [("net.body.1", "1")], example=x))
    assert all(torch.equal(a, b) for a, b in zip(G.state_dict().values(), before.values(), strict=True))
    y, outputs = twin(x), loop.rollout(x, steps=3).outputs
    assert torch.equal(outputs[0], y)
    assert not torch.equal(outputs[3], y)
    assert all(torch.equal(a, b) for a, b in zip(G.state_dict().values(), before.values(), strict=True))


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
