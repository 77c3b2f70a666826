"""What people do with models: threads, compile, export, autocast, checkpointing, installing, strengths."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from helpers import first, stir
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import ZOO, Deconv, Mine, Residual, Restless, patch, z

import fbwrap


@pytest.fixture
def sr():
    G, D, args, loop = ZOO["glob"].build()
    return G, D, args, stir(loop)


def test_two_threads_share_a_loop(sr):
    G, _, _, loop = sr
    inputs = [torch.randn(2, 3, 8, 8) for _ in range(12)]
    with torch.no_grad():
        wanted, plain = [loop(x) for x in inputs], [G(x) for x in inputs]
    wrong = []

    def work(mine):
        with torch.no_grad():
            for _ in range(5):
                same = [torch.equal(loop(inputs[i]), wanted[i]) and torch.equal(G(inputs[i]), plain[i]) for i in mine]
                wrong.extend(i for i, ok in zip(mine, same, strict=True) if not ok)

    threads = [threading.Thread(target=work, args=(range(k, 12, 2),)) for k in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_installed_makes_g_run_the_loop(sr):
    G, _, args, loop = sr
    wanted, plain = loop(*args), G(*args)
    with loop.installed():
        assert torch.equal(G(*args), wanted)
        assert torch.equal(G.forward(*args), wanted)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(G(*args)))
        thread.start()
        thread.join()
        assert torch.equal(seen[0], wanted)
    assert torch.equal(G(*args), plain)
    with loop.installed():
        loop.detach()
        assert torch.equal(G(*args), plain)


def test_strength_per_sample_mask_and_link(sr):
    G, _, (x,), loop = sr
    base, full = G(x), loop(x)
    per_sample = torch.tensor([0.0, 1.0, 0.0])
    with loop.settings(strength=per_sample):
        y = loop(x)
    assert torch.equal(y[0], base[0])
    assert torch.allclose(y[1], full[1], atol=1e-6)
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    with loop.settings(strength={"body.3": 1.0, "body.0": 0.0, "body.1": 0.0, "body.2": 0.0}):
        only = loop(x)
        with loop.settings(strength=mask):
            masked = loop(x)
        with loop.settings(strength=mask[None, None].expand(3, 1, 16, 16)):
            assert torch.allclose(loop(x), masked)
    assert torch.equal(masked[..., :6], base[..., :6]), "nothing far from the mask changes"
    assert torch.allclose(masked[..., 12:], only[..., 12:], atol=1e-6)
    loop["body.1"].strength = 0.5
    assert loop[1].strength == 0.5
    with pytest.raises(RuntimeError), loop.settings(strength=0.1, steps=7):
        with loop.settings(steps=2):
            assert (loop.strength, loop.steps) == (0.1, 2)
        assert loop.steps == 7
        raise RuntimeError
    assert (loop.strength, loop.steps) == (1.0, 1)


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


def test_compiled_before_attach_is_looked_through():
    torch.manual_seed(0)
    G, D, x = Residual(), patch(), torch.randn(2, 3, 8, 8)
    plain = stir(fbwrap.attach(G, D, ["body.1"], example=x))
    whole = torch.compile(G, backend="eager")
    whole(x)
    loop = fbwrap.attach(whole, D, ["body.1"], example=x)
    loop.load_state_dict(plain.state_dict())
    assert torch.equal(loop(x), plain(x))
    assert "compiled" not in plain.plan.notes
    inside = copy.deepcopy(G)
    inside.body.compile(backend="eager")
    inside.tail = torch.compile(inside.tail, backend="eager")
    inside(x)
    loop = fbwrap.attach(inside, D, ["body.1"], example=x)
    assert any("compiled" in note for note in loop.plan.notes)
    loop.load_state_dict(plain.state_dict())
    assert torch.equal(loop(x), plain(x)), "hooks under compiled code would be ignored"


def test_compiled_after_attach(sr):
    G, _, args, loop = sr
    wanted = loop(*args)
    G.compile(backend="eager")
    G(*args)
    assert torch.equal(loop(*args), wanted)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_around_a_corrected_layer_is_refused_while_training(reentrant):
    class Checkpointed(Residual):
        def forward(self, x):
            h = self.head(x)
            for block in self.body:
                h = checkpoint(block, h, use_reentrant=reentrant)
            return F.pixel_shuffle(self.tail(h), 2)

    torch.manual_seed(0)
    G, D, x = Checkpointed(), patch(), torch.randn(2, 3, 8, 8)
    inside = stir(fbwrap.attach(G, D, ["body.1.0"], example=x))
    with torch.no_grad():
        inside(x)  # at test time it is right
    inside.train()
    with pytest.raises(fbwrap.errors.UnsupportedError, match="checkpointing"):
        inside(x)
    before = stir(fbwrap.attach(G, D, ["head"], example=x)).train()
    plain = Residual()
    plain.forward = lambda x: F.pixel_shuffle(plain.tail(plain.body(plain.head(x))), 2)
    plain.load_state_dict(G.state_dict())
    same = fbwrap.attach(plain, D, ["head"], example=x).train()
    same.load_state_dict(before.state_dict())
    for loop in (before, same):
        loop(x).square().sum().backward()
    for a, b in zip(before.parameters(), same.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_autocast(sr):
    G, _, args, loop = sr
    with torch.autocast("cpu", torch.bfloat16):
        base, y = G(*args), loop(*args)
        with loop.settings(strength=0.0):
            assert torch.equal(loop(*args), base)
    assert y.dtype is base.dtype
    assert torch.allclose(y.float(), loop(*args), atol=0.2)
    assert not torch.equal(y, base)


def test_export_gives_one_graph(sr):
    _, _, args, loop = sr
    with loop.settings(steps=2):
        wanted = loop(*args)
        program = loop.export(*args)
    assert torch.allclose(program.module()(*args), wanted, atol=1e-6)


def test_random_numbers_in_one_graph_are_refused():
    _, _, args, loop = ZOO["noise"].build()
    with pytest.raises(fbwrap.errors.UnsupportedError, match="random numbers"):
        loop.export(*args)


@pytest.mark.slow
def test_a_compiled_loop_gives_the_same(sr):
    _, _, args, loop = sr
    wanted = loop(*args)
    assert torch.allclose(torch.compile(loop, backend="aot_eager", fullgraph=True)(*args), wanted, atol=1e-5)


def test_wrapped_g_and_other_forwards_stay():
    torch.manual_seed(0)
    G, D, (latent,) = Deconv().eval(), patch(), z()
    parallel = nn.DataParallel(G)
    mine = G.main[3].forward
    G.main[3].forward = lambda x: mine(x) * 2  # somebody patched a layer
    patched = G.main[3].forward
    loop = stir(fbwrap.attach(parallel, D, ["module.main.3"], example=latent))
    assert loop.connections[0].target.name == "main.3"
    loop(latent)
    assert G.main[3].forward is patched


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
    with pytest.raises(fbwrap.errors.LayerNotCalledError, match="depends on its input"):
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


def test_own_module_plain_function_and_bad_shape():
    class Wrong(Mine):
        def forward(self, feature, *signals):
            return self.net(signals[0])[:, :1, :2]

    G, D, args, _ = ZOO["glob"].build()
    loop = fbwrap.attach(G, D, ["body.1"], module=Mine, example=args)
    assert not torch.equal(loop(*args), G(*args))
    with pytest.raises(fbwrap.FbwrapError, match="shape"):
        fbwrap.attach(G, D, ["body.1"], module=Wrong, example=args)(*args)


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


def test_auto_prefers_equal_sizes():
    _, _, _, loop = ZOO["dcgan_auto"].build()
    assert [(str(c.target), c.sources[0].name) for c in loop.connections] == [("main.2", "4"), ("main.5", "1")] or [
        (c.form.spatial, c.sources[0].form.spatial) for c in loop.connections
    ] == [((4, 4), (4, 4)), ((8, 8), (8, 8))]


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
