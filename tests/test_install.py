"""``loop.installed()`` and ``install()``: G itself runs the loop; several loops on one G; copies meanwhile."""

import copy
import pickle
import threading

import pytest
import torch
from helpers import stir
from lookalikes import latent
from small import X, attach, pair
from torch import nn
from zoo import Deconv, patch, z

import fbwrap
from fbwrap import errors
from fbwrap.errors import SettingError
from fbwrap.feedback.features import resize


def by_hand(G, D, loops):
    """Loops on one G as somebody would write them: the first one's hooks first, each loop around all before it."""
    cells = [None] * len(loops)
    handles = []
    for k, loop in enumerate(loops):
        target = dict(G.named_modules())[loop[0].target]

        def hook(module, given, output, k=k, loop=loop):
            return output if cells[k] is None else output + loop.feedback[0](output, cells[k])

        handles.append(target.register_forward_hook(hook))

    def run(k, x):
        if k < 0:
            return G(x)
        y, got = run(k - 1, x), []
        tap = dict(D.named_modules())[loops[k].connections[0].sources[0].name]
        handle = tap.register_forward_hook(lambda m, i, o: got.append(o.clone()))
        D(y)
        handle.remove()
        for _ in range(loops[k].steps):
            cells[k] = resize(got[-1], (8, 8))
            y = run(k - 1, x)
            cells[k] = None
            handle = tap.register_forward_hook(lambda m, i, o: got.append(o.clone()))
            D(y)
            handle.remove()
        return y

    with torch.no_grad():
        y = run(len(loops) - 1, X)
    for handle in handles:
        handle.remove()
    return y


@pytest.mark.parametrize("targets", [("body.1", "body.2"), ("body.2", "body.1"), ("body.1", "body.1")])
@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (1, 2)])
def test_loops_installed_on_one_generator_act_in_the_order_of_installing(targets, steps):
    G, D = pair()
    plain, kept = G(X), sorted(vars(G))
    a, b = (
        stir(fbwrap.attach(G, D, [(target, "1")], example=X, steps=T), seed=seed)
        for target, T, seed in zip(targets, steps, (1, 4), strict=True)
    )
    ya, yb = a(X), b(X)
    both, turned = by_hand(G, D, [a, b]), by_hand(G, D, [b, a])
    with torch.no_grad(), a.installed():
        assert torch.equal(b(X), yb), "a loop that is called runs on the plain G"
        assert torch.equal(a(X), ya)
        with b.installed():
            assert torch.equal(G(X), both)
            assert torch.equal(a(X), ya)
            assert torch.equal(b(X), yb)
            with a.installed():
                assert torch.equal(G(X), both), "a loop that is installed twice acts once"
            with b.settings(strength=0.0):
                assert torch.equal(G(X), ya)
            a.detach()
            assert torch.equal(G(X), yb)
        assert torch.equal(G(X), plain)
    a = stir(fbwrap.attach(G, D, [(targets[0], "1")], example=X, steps=steps[0]), seed=1)
    with torch.no_grad(), b.installed(), a.installed():
        assert torch.equal(G(X), turned)
        assert not torch.equal(both, turned)
    assert torch.equal(G(X), plain)
    assert sorted(vars(G)) == kept


def test_attaching_to_a_generator_with_a_loop_on_it_looks_at_the_plain_one():
    G, D = pair()
    a = attach(G, D)
    with a.installed():
        b = stir(fbwrap.attach(G, D, [("body.2", "1")], example=X), seed=4)
        assert torch.equal(b(X), stir(fbwrap.attach(G, D, [("body.2", "1")], example=X), seed=4)(X))
    assert b.plan.generator_flops == a.plan.generator_flops


def test_loops_that_cannot_act_together_are_refused():
    G, D = pair()
    a = attach(G, D)
    carried = fbwrap.attach(G, D, ["body.2"], module="ast", example=X)
    previous = fbwrap.attach(G, D, [fbwrap.Link("body.2", "1", feature="previous")], example=X)
    for other, word in ((carried, "carried"), (previous, "previous")):
        for first, second in ((a, other), (other, a)):
            with first.installed(), pytest.raises(errors.UnsupportedError, match=word):
                second.install()
            assert "forward" not in vars(G)
    at = [fbwrap.attach(G, D, [fbwrap.Link("body.2", "1", at="input")], example=X) for _ in range(2)]
    with at[0].installed(), pytest.raises(errors.UnsupportedError, match="input of one layer"):
        at[1].install()
    with a.installed(), at[0].installed():
        pass


def test_installed_runs_hooks_on_g_once():
    G, D = pair()
    loop = fbwrap.attach(G, D, [("body.1", "1")], example=X)
    G.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    G.register_forward_hook(lambda m, a, y: y + 1)
    wanted = G(X)
    with loop.installed():
        assert torch.equal(G(X), wanted)


def test_copies_while_installed():
    G, D = pair()
    loop = attach(G, D)
    y = loop(X)
    with loop.installed():
        assert torch.equal(copy.deepcopy(loop)(X), y)
    forward = G.forward
    G.forward = lambda x: forward(x) * 2  # as accelerate does
    with loop.installed():
        assert torch.equal(copy.deepcopy(G)(X), G.forward.original(X))


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


def test_install_is_one_line_and_detach_undoes_it():
    from helpers import stir

    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    loop = stir(fbwrap.attach(G.eval(), D))
    z = torch.randn(2, 8, 1, 1)
    plain, y = G(z), loop(z)
    assert loop.install() is loop
    loop.install()
    assert torch.equal(G(z), y)
    loop.uninstall()
    assert torch.equal(G(z), plain)
    loop.install()
    assert torch.equal(G(z), y), "installed again"
    copied = copy.deepcopy(loop)
    pickle.loads(pickle.dumps(loop))
    assert torch.equal(copied(z), y)
    with loop.installed():
        loop.uninstall()
        assert torch.equal(G(z), y), "the block still holds"
        loop.install()
    assert torch.equal(G(z), y)
    loop.detach()
    assert torch.equal(G(z), plain)
    assert "forward" not in vars(G)


def test_generators_that_call_forward_themselves():
    from helpers import stir

    G, D = latent.MimicryG().eval(), latent.MimicryD().eval()
    with stir(fbwrap.attach(G, D)).installed() as loop:
        torch.manual_seed(0)
        mine = G.generate_images(3)
        torch.manual_seed(0)
        assert torch.equal(mine, loop(torch.randn(3, G.nz)))


def test_somebodys_optimizer_trains_the_head():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    G.main[0].weight.requires_grad_(False)
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam([{"params": G.parameters()}, {"params": other.parameters(), "lr": 1e-5}], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    before = [(name, value.clone()) for name, value in G.state_dict().items()]
    loop = fbwrap.attach(G, D).install().train_with(optimizer)
    start = [p.clone() for p in loop.parameters()]
    assert optimizer.param_groups[1]["params"] == list(other.parameters()), "the others stay"
    for _ in range(2):
        optimizer.zero_grad()
        G(torch.randn(3, 8, 1, 1)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 2.5e-4
    assert any(not torch.equal(a, b) for a, b in zip(start, loop.parameters(), strict=True))
    assert all(torch.equal(value, G.state_dict()[name]) for name, value in before), "G's statistics stay too"
    assert G.training
    loop.detach()
    assert [p.requires_grad for p in G.parameters()][:3] == [False, True, True]
    with pytest.raises(SettingError, match="holds no parameter of the loop's generator"):
        fbwrap.attach(G, D).train_with(torch.optim.SGD(other.parameters(), 0.1))


def test_train_with_on_frozen_networks_other_groups_and_other_optimizers():
    G, D = latent.dcgan_g(size=32), latent.DcganD(size=32)
    other = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(
        [{"params": list(other.named_parameters()), "lr": 1e-9}, {"params": list(G.named_parameters()), "lr": 1e-3}]
    )
    G.requires_grad_(False)
    G.train()
    before = G.main[1].running_mean.clone()
    loop = fbwrap.attach(G, D).install().train_with(optimizer)
    held = {id(p) for p in optimizer.param_groups[1]["params"]}
    assert held == {id(p) for p in loop.parameters()}, "in the group that held G"
    optimizer.state_dict()
    G(torch.randn(4, 8, 1, 1))
    assert torch.equal(G.main[1].running_mean, before), "frozen beforehand, and still run in eval mode"
    norm = next(m for m in loop.modules() if isinstance(m, nn.BatchNorm2d))
    kept = norm.running_mean.clone()
    G.eval()(torch.randn(4, 8, 1, 1))
    assert torch.equal(norm.running_mean, kept), "sampling moves no statistics of the head"
    G.train()(torch.randn(4, 8, 1, 1))
    assert not torch.equal(norm.running_mean, kept)
    loop.detach()
    with pytest.raises(fbwrap.errors.DetachedError):
        loop.train_with(torch.optim.Adam(G.parameters()))
    with pytest.raises(SettingError, match="LBFGS"):
        fbwrap.attach(G, D).train_with(torch.optim.LBFGS(G.parameters()))
