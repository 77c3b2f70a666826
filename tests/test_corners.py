"""Corners that a review found: each once gave a wrong result or left something behind."""

import collections
import contextlib
import copy
import dataclasses
import json
import os
import signal
import threading

import pytest
import torch
from fbwrap.recipes import AFL
from helpers import clone, state, stir
from torch import nn
from zoo import ZOO, Deconv, Residual, patch

import fbwrap
from fbwrap import errors
from fbwrap.feedback.features import resize

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def pair(seed=0):
    torch.manual_seed(seed)
    return Residual(), patch()


def attach(G, D, layers=(("body.1", "1"),), **options):
    return stir(fbwrap.attach(G, D, list(layers), example=X, **options))


def test_handles_stay_good_after_settings_and_rollouts():
    loop = attach(*pair())
    handle = loop[0]
    loop.rollout(X, strength=0.5)
    with loop.settings(strength=0.5):
        pass
    handle.strength = 0.0
    assert loop[0].strength == 0.0
    assert torch.equal(loop(X), loop.generator(X))


def test_rollouts_with_their_own_strength_do_not_touch_the_loops():
    loop = attach(*pair())
    seen = []
    loop.feedback[0].register_forward_hook(lambda *a: seen.append((loop.strength, loop.steps)))
    a = loop.rollout(X, strength=0.2, steps=2).output
    assert seen == [(1.0, 1)] * 2
    with loop.settings(strength=0.2, steps=2):
        assert torch.equal(loop(X), a)


def test_two_generators_that_share_d_in_two_threads():
    (G1, D), (G2, _) = pair(), pair(1)
    D = nn.Sequential(*D, nn.BatchNorm2d(1)).train()
    loops = [attach(G, D) for G in (G1, G2)]
    before = state(D)
    wanted = [loop(X) for loop in loops]
    wrong = []

    def work(k):
        wrong.extend(k for _ in range(20) if not torch.equal(loops[k](X), wanted[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    assert [s[0] for s in before] == [s[0] for s in state(D)]
    assert torch.equal(D[-1].running_mean, torch.zeros(1))


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


def test_installed_around_compiled_g():
    G, D = pair()
    whole = torch.compile(G, backend="eager")
    whole(X)
    loop = attach(G, D)
    y = loop(X)
    with loop.installed():
        assert torch.equal(whole(X), y)


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


def test_strength_of_one_value_per_sample_in_every_shape():
    G, D, (x,), loop = ZOO["glob"].build()
    stir(loop)
    alpha = torch.tensor([0.0, 1.0, 0.5])
    wanted = loop.rollout(x, strength=alpha).output
    for shape in ((3, 1), (3, 1, 1), (3, 1, 1, 1)):
        assert torch.equal(loop.rollout(x, strength=alpha.reshape(shape)).output, wanted)
    G, D, (z,), loop = ZOO["vector"].build()
    stir(loop)
    half = loop.rollout(z, strength=0.5).output
    assert torch.allclose(loop.rollout(z, strength=torch.full((5, 1, 4, 4), 0.5)).output, half, atol=1e-6)
    assert torch.allclose(loop.rollout(z, strength=torch.full((4, 4), 0.5)).output, half, atol=1e-6)


def test_two_carried_links_on_one_layer_are_refused():
    G, D = pair()
    links = [fbwrap.Link("body.1", module="ast"), fbwrap.Link("body.1", "1", carry=True)]
    with pytest.raises(errors.PairingError, match="Two carried links"):
        fbwrap.attach(G, D, links, example=X)


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


def test_keyword_inputs_and_number_like_keys():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 3, 1)

        def forward(self, a, *, b):
            return {"0": self.conv(a + b), "1": a}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.two = nn.Conv2d(3, 8, 1), Two()

        def forward(self, x):
            return self.two(self.head(x), b=self.head(x * 2))["0"]

    G, x = Net(), torch.randn(2, 3, 16, 16)
    with pytest.raises(errors.PairingError, match=r"two\[0\].*two\[b\]"):
        fbwrap.attach(G, patch(), [fbwrap.Link("two", "1", at="input")], example=x)
    for link in (fbwrap.Link("two[b]", "1", at="input"), fbwrap.Link("two[0]", "1", at="input"), ("two[0]", "1")):
        loop = stir(fbwrap.attach(G, patch(), [link], example=x))
        assert not torch.equal(loop(x), G(x))


def test_a_tap_that_is_nan_behind_which_d_fails():
    D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 1))
    nn.init.constant_(D[0].weight, torch.nan)
    with pytest.raises(errors.CriticError, match="NaN"):
        fbwrap.attach(Residual(), D, [("body.1", "0")], example=X)


def test_another_architecture_of_d_is_refused_by_name():
    loop = attach(*pair())
    loop.use_discriminator(nn.Conv2d(3, 1, 3))
    with pytest.raises(errors.CriticError, match="no layer '1'"):
        loop(X)


def test_an_interrupt_in_the_midst_of_a_step_is_heard_between_steps(tmp_path):
    def run(out, interrupt):
        G, D = pair()
        torch.manual_seed(3)
        loop = fbwrap.attach(G, D, [("body.1", "1")], example=X)
        recipe = AFL(loop, batch=2, save_every=50, loss="bce")
        if interrupt:
            calls = []

            def hook(*a):
                calls.append(1)
                if len(calls) == 9:
                    os.kill(os.getpid(), signal.SIGINT)

            handle = recipe._critic.net[0].register_forward_pre_hook(hook)
            with pytest.raises(KeyboardInterrupt):
                resize(recipe, out)
            handle.remove()
        return resize(recipe, out, resume=True), loop

    def resize(recipe, out, resume=False):
        data = [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(k)) for k in range(3)]
        inputs = lambda n: torch.randn(n, 3, 8, 8)
        return recipe.fit(data, inputs, 6, out=out, resume=resume, progress=False)

    (one, a), (two, b) = run(tmp_path / "a", False), run(tmp_path / "b", True)
    assert (one.steps, two.steps) == (6, 6)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)


def test_inference_mode_reference():
    loop = attach(*pair())
    with torch.inference_mode():
        assert loop.rollout(X, reference=torch.randn(2, 3, 16, 16)).output.shape == (2, 3, 16, 16)


def test_question_marks_leave_out_layers_that_are_not_called():
    G = Residual()
    G.body.append(nn.Conv2d(1, 1, 1))
    forward = G.body.forward
    G.body.forward = lambda x: nn.Sequential(*list(G.body)[:4])(x)
    loop = fbwrap.attach(G, patch(), ["body.?"], example=X)
    assert [str(c.target) for c in loop.connections] == ["body.0", "body.1", "body.2", "body.3"]
    assert forward is not None
    assert clone((X,))[0] is not X


def test_how_d_is_asked_can_be_set_on_a_loop():
    torch.manual_seed(0)
    z = torch.randn(2, 6, 1, 1)
    loop = stir(fbwrap.attach(Deconv().eval(), patch(), [("main.5", "0")], example=z))
    calls = []

    def twice(output, *args):
        calls.append(len(output))
        return output * 2

    y, ask = loop(z), loop.critic_input
    loop.critic_input = twice
    assert not torch.equal(loop(z), y)
    assert calls
    loop.critic_input = ask
    assert torch.equal(loop(z), y)
    loop.critic_call = dataclasses.replace(loop.critic_call, detach_signals=False)
    assert loop.detach_signals is False
    loop.detach_signals, loop.critic_mode = True, "inherit"
    assert (loop.critic_call.detach_signals, loop.critic_call.mode) == (True, "inherit")
    loop.use_discriminator(patch())
    assert loop.critic_mode == "inherit", "another D is asked in the same way"
