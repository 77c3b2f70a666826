"""DESIGN §7: the invariants, on every network of the zoo."""

import copy
import pickle

import pytest
import torch
from helpers import clone, dice, first, same, state, stir, throw
from naive import naive
from torch import Tensor, nn
from zoo import ZOO

import fbwrap


def equal(a, b):
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return all(equal(x, y) for x, y in zip(a, b, strict=True))


def run(loop, args, seed=7, **settings):
    torch.manual_seed(seed)
    with loop.settings(**settings):
        return loop(*clone(args))


def test_attach_run_and_detach_leave_no_trace(case):
    torch.manual_seed(0)
    G, D = case.make()
    G.train(case.train)
    D.train(case.train)
    seen = []
    handle = next(G.children()).register_forward_hook(lambda *a: seen.append(1))
    before = state(G, D)
    args = case.args()
    thrown = dice()
    expected = G.eval()(*clone(args))
    G.train(case.train)
    loop = fbwrap.attach(G, D, case.layers, example=clone(args), **case.options)
    assert same(before, state(G, D))
    throw(thrown)
    if not case.train:  # in train mode one call of G moves its own statistics, as it always did
        stir(loop)(*clone(args))
        assert same(before, state(G, D))
        loop.detach()
        loop.detach()
        throw(thrown)
        assert equal(G(*clone(args)), expected)
        assert seen
    with pytest.raises(fbwrap.errors.DetachedError, match=r"fbwrap\.attach"):
        loop.detach()
        loop(*args)
    handle.remove()


def test_no_pass_moves_a_statistic(case):
    G, D, args, loop = case.build()
    before = state(G, D)
    for settings in ({"steps": 3}, {"steps": 0}, {"strength": 0.0}):
        run(stir(loop), args, **settings)
        assert same(before, state(G, D)), settings
    with loop.installed():
        G(*clone(args)) if loop.method == "forward" else getattr(G, loop.method)(*clone(args))
    assert same(before, state(G, D)), "installed"


def test_where_g_is_trained_statistics_move_as_in_one_call_of_it(case):
    G, D, args, loop = case.build()
    twin = copy.deepcopy(G)
    before = state(D)
    torch.manual_seed(7)
    twin(*clone(args))
    loop.update_statistics = True  # as FAL has it
    run(stir(loop), args, steps=3)
    assert same(before, state(D))
    if loop.plan.first == "base":
        assert all(torch.equal(a, b) for a, b in zip(G.state_dict().values(), twin.state_dict().values(), strict=True))


def test_fresh_zero_strength_and_no_steps_are_g(case):
    G, _, args, loop = case.build()
    kept = copy.deepcopy(G.state_dict())

    def expect():
        G.load_state_dict(kept)
        torch.manual_seed(7)
        return G(*clone(args))

    def got(**settings):
        G.load_state_dict(kept)
        return run(loop, args, **settings)

    expected = expect()
    assert equal(got(steps=2), expected), "a fresh head"
    stir(loop)
    assert equal(got(steps=2, strength=0.0), expected), "strength 0"
    assert equal(got(steps=0), expected), "no steps"
    assert equal(got(steps=2, strength=torch.zeros(first(expected).shape[0])), expected), "zeros"
    assert not equal(got(steps=2), expected), "a stirred head does something"


@pytest.mark.parametrize("steps", [1, 3])
def test_replay_and_early_exit_equal_the_naive_rerun(case, steps):
    G, D, args, loop = case.build()
    stir(loop)
    kept = copy.deepcopy(G.state_dict())
    torch.manual_seed(7)
    expected = naive(loop, G, D, args, steps)
    G.load_state_dict(kept)
    torch.manual_seed(7)
    rollout = loop.rollout(*clone(args), steps=steps)
    for t in range(steps + 1):
        if expected[t] is not None:
            assert equal(rollout.outputs[t], expected[t]), f"y_{t}"
    again = run(loop, args, steps=steps) if not case.train else rollout.output
    assert equal(again, expected[-1])


def test_the_prefix_is_not_computed_again():
    G, _, args, loop = ZOO["dcgan"].build()
    counts = [0] * len(G.main)
    for place, layer in enumerate(G.main):
        forward = layer.forward

        def count(x, place=place, forward=forward):
            counts[place] += 1
            return forward(x)

        layer.forward = count
    stir(loop)
    run(loop, args, steps=3)
    assert counts == [1, 1, 1, 4, 4, 4, 4, 4]
    counts[:] = [0] * len(counts)
    run(loop, args, strength={"main.2": 0.0})  # the first use of these links proves what may be left out
    counts[:] = [0] * len(counts)
    with loop.settings(strength={"main.2": 0.0}):  # only the later link: more is replayed
        run(loop, args, steps=3)
    assert counts == [1, 1, 1, 1, 1, 1, 4, 4]


def test_the_plan_says_what_is_really_replayed():
    _, _, _, loop = ZOO["appending"].build()
    assert loop.plan.replayed == ("encoder.a", "encoder.b", "mid"), "its encoder fills a list: it runs"
    assert 0 < loop.plan.suffix_flops < loop.plan.generator_flops

    seen = []

    class Telling(nn.Module):
        """Tells somebody far away what it saw."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            seen.append(x.mean())
            return self.conv(x)

    class Listening(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = Telling(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            seen.clear()
            return self.c(self.b(self.a(x))) + sum(seen)

    loop = fbwrap.attach(Listening(), ZOO["appending"].make()[1], [("b", "1")], example=torch.randn(1, 3, 8, 8))
    assert loop.plan.replayed == (), "leaving out what tells would be noticed"
    assert loop.plan.suffix_flops == loop.plan.generator_flops


def test_d_stops_after_its_last_tap_and_is_not_run_for_nothing():
    G, D, args, loop = ZOO["fixed_head"].build()
    calls = []
    D.fc.register_forward_hook(lambda *a: calls.append("fc"))
    D.features.register_forward_hook(lambda *a: calls.append("features"))
    stir(loop)
    run(loop, args, steps=2)
    assert calls == [], "features itself ends after its tapped last layer"
    run(loop, (torch.randn(1, 3, 20, 12),), steps=1)  # D's linear head does not fit: never reached
    D.features[0].register_forward_hook(lambda *a: calls.append("tapped"))
    run(loop, args, steps=2, strength=0.0)
    assert calls == []
    run(loop, args, steps=2)
    assert calls == ["tapped"] * 2


def test_a_sample_does_not_depend_on_its_neighbours(case):
    if case.train:
        pytest.skip("G in train mode depends on the batch by itself")
    G, _, args, loop = case.build()
    if loop.plan.random:
        pytest.skip("random numbers are drawn for the batch")
    stir(loop)
    together = first(run(loop, args, steps=2))
    for place in range(len(together)):
        alone = first(run(loop, tuple(a[place : place + 1] for a in args), steps=2))
        assert torch.allclose(alone[0], together[place], atol=2e-5)


def test_exceptions_leave_no_trace():
    class Boom(RuntimeError):
        pass

    def boom(*a):
        raise Boom

    G, D, args, loop = ZOO["unet_train"].build()
    stir(loop)
    before = state(G, D)
    kept = copy.deepcopy(G.state_dict())
    places = [G.model[1].model[5], G, D[0], loop.feedback[0]]
    for place in places:
        handle = place.register_forward_pre_hook(boom)
        with pytest.raises((Boom, fbwrap.errors.CriticError)), loop.settings(steps=5, strength=0.3):
            loop(*clone(args))
        handle.remove()
        G.load_state_dict(kept)
        assert same(before, state(G, D))
        assert (loop.steps, loop.strength) == (1, 1.0)
    loop(*clone(args))


def test_a_failing_attach_leaves_no_trace():
    G, D, args, _ = ZOO["dcgan_train"].build()
    before = state(G, D)
    for layers in (["nope"], ["main.0", "nope"], [("main.0", "nope")], []):
        with pytest.raises(fbwrap.FbwrapError):
            fbwrap.attach(G, D, layers, example=args)
        assert same(before, state(G, D))


def test_the_head_is_not_part_of_g_or_d(dcgan):
    G, D, _, loop = dcgan
    mine = {id(p) for p in loop.parameters()}
    assert mine
    assert not mine & {id(p) for p in (*G.parameters(), *D.parameters())}
    assert all(key.startswith("feedback.") for key in loop.state_dict())
    assert not any(m in (G, D) for m in loop.modules())
    loop.train()
    assert not G.training
    assert not D.training


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_of_g_are_plain(dcgan, copied):
    G, _, args, loop = dcgan
    stir(loop)
    twin = copied(G)
    assert same(state(G), state(twin))
    with loop.installed():
        inside = copied(G)
        assert torch.equal(inside(*args), twin(*args))
        assert not torch.equal(G(*args), twin(*args))
    assert torch.equal(G(*args), twin(*args))


def test_a_copy_of_the_loop_is_a_loop_of_its_own(dcgan):
    _, _, args, loop = dcgan
    stir(loop)
    twin = copy.deepcopy(loop)
    assert torch.equal(twin(*args), loop(*args))
    assert twin.generator is not loop.generator
    stir(twin, seed=5)
    assert not torch.equal(twin(*args), loop(*args))


def test_float64_and_bfloat16():
    for dtype in (torch.float64, torch.bfloat16):
        for name in ("dcgan", "ast"):
            G, D, args, loop = ZOO[name].build(dtype=dtype)
            assert torch.equal(loop(*args), G(*args))
            stir(loop)
            y = loop(*args)
            assert y.dtype is dtype
            assert next(loop.parameters()).dtype is (torch.float64 if dtype == torch.float64 else torch.float32)


def test_inference_mode_is_the_same(case):
    _, _, args, loop = case.build()
    if case.train:
        pytest.skip("statistics move")
    stir(loop)
    with torch.no_grad():
        expected = run(loop, args, steps=2)
    with torch.inference_mode():
        torch.manual_seed(7)
        with loop.settings(steps=2):
            assert equal(loop(*(a.clone() for a in args)), expected)


def test_nothing_is_kept_alive():
    import gc
    import weakref

    G, D, args, loop = ZOO["dcgan"].build()
    y = stir(loop)(*args)
    dead = [weakref.ref(x) for x in (loop, y, loop.feedback[0])]
    loop.detach()
    del loop, y
    gc.collect()
    assert [ref() for ref in dead] == [None] * 3
    assert isinstance(G, nn.Module)
