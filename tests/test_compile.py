"""``torch.compile``, ``torch.export``, autocast and checkpointing around a loop and inside it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import stir
from lookalikes import latent
from small import X, attach, pair
from torch.utils.checkpoint import checkpoint
from zoo import ZOO, Residual, patch

import fbwrap
from fbwrap.engine.pytree import tensors


def test_installed_around_compiled_g():
    G, D = pair()
    whole = torch.compile(G, backend="eager")
    whole(X)
    loop = attach(G, D)
    y = loop(X)
    with loop.installed():
        assert torch.equal(whole(X), y)


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


def test_one_graph_holds_what_does_not_change_once(sr):
    """Layers of G before the first correction are in the graph once, whatever the number of steps."""
    _, _, args, loop = sr
    assert loop.plan.suffix_flops < loop.plan.generator_flops

    def convolutions(steps):
        with loop.settings(steps=steps):
            nodes = loop.export(*args).graph.nodes
        return sum("conv" in str(node.target) for node in nodes if node.op == "call_function")

    one, two, three = (convolutions(steps) for steps in (1, 2, 3))
    loop.replay = False
    whole = convolutions(2) - convolutions(1)
    assert three - two == two - one < whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["before_inplace", "in_place_critic", "entangled", "shared_activation", "appending", "restless", "reused", "list"],
)
def test_a_graph_leaves_out_only_what_it_may(name):
    """Features that are written in place, layers that are called again, outputs that are no single tensor."""
    _, _, args, loop = ZOO[name].build()
    for steps in (1, 2):
        with loop.settings(steps=steps), torch.no_grad():
            wanted = loop(*args)
            torch._dynamo.reset()
            found = torch.compile(loop, backend="eager", fullgraph=True)(*args)
        pairs = zip(tensors(wanted), tensors(found), strict=True)
        assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


@pytest.mark.slow
def test_a_compiled_loop_gives_the_same(sr):
    _, _, args, loop = sr
    wanted = loop(*args)
    assert torch.allclose(torch.compile(loop, backend="aot_eager", fullgraph=True)(*args), wanted, atol=1e-5)


def test_plain_networks_leave_torch_compile_alone():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    seen = []

    def count(graph, inputs):
        seen.append(1)
        return graph.forward

    with fbwrap.attach(G, D).installed():
        torch.compile(lambda x: x * 2 + 1, backend=count)(torch.ones(2))
    assert seen


def test_compiled_generators_may_be_let_go_in_any_order():
    from torch._dynamo import eval_frame

    loops = []
    for _ in range(2):
        G = latent.dcgan_g(size=32).eval()
        loops.append(fbwrap.attach(torch.compile(G, backend="eager"), latent.DcganD(size=32)))
    first, second = (loop.install() for loop in loops)
    first.detach()
    assert eval_frame._stance.stance == "force_eager", "the second still needs it"
    second.detach()
    assert eval_frame._stance.stance == "default"
