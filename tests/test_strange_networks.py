"""Networks as people have them: scripted layers, buffers of every kind, no memory, quantised, own spectral norm, state
in plain attributes, views of parameters."""

import types

import pytest
import torch
from helpers import same, state
from torch import nn
from zoo import patch

import fbwrap
from fbwrap.errors import HeadError, LayerNotFoundError, UnsupportedError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(inside, outside):
    return nn.Conv2d(inside, outside, 3, padding=1)


def generator():
    torch.manual_seed(0)
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))


def critic():
    torch.manual_seed(1)
    return nn.Sequential(conv(3, 4), nn.ReLU(), nn.Conv2d(4, 1, 8))


# -- buffers --------------------------------------------------------------------------------------------
BUFFERS = {
    "expanded": lambda: torch.ones(1, 1, 3, 3).expand(4, 1, 3, 3),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "conjugate": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "negative view": lambda: torch.ones(2, dtype=torch.complex64).conj().imag,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "empty": lambda: torch.empty(0),
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "NaN": lambda: torch.full((2,), torch.nan),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("who", ["G", "D"])
@pytest.mark.parametrize("kind", BUFFERS)
def test_buffers_of_any_kind_disturb_nothing(kind, who, tmp_path):
    G, D = generator(), critic()
    {"G": G, "D": D}[who].register_buffer("kept", BUFFERS[kind]())
    plain = G(X)
    loop = fbwrap.attach(G, D, [("1", "1")], example=X)
    assert torch.equal(loop(X), plain)
    stirred = loop.rollout(X).output
    assert torch.equal(stirred, loop.rollout(X).output)
    loop.save_pretrained(tmp_path)
    assert torch.equal(fbwrap.from_pretrained(tmp_path, G, D)(X), plain)


def test_a_view_of_a_parameter_handed_to_a_layer():
    """StyleGAN2's constant input: the counting of FLOPs, under no_grad, may not refuse it."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.const = nn.Parameter(torch.randn(1, 8, 8, 8))
            self.conv, self.out = conv(8, 8), conv(8, 3)

        def forward(self, z):
            return self.out(self.conv(self.const.expand(len(z), -1, -1, -1)) * z.mean((1, 2, 3)).view(-1, 1, 1, 1))

    G = Constant()
    loop = fbwrap.attach(G, critic(), [("conv", "1")], example=X)
    assert torch.equal(loop(X), G(X))


# -- scripted, without memory, elsewhere --------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_traced_modules_are_leaves():
    G, D = generator(), critic()
    G[0] = torch.jit.script(G[0])
    D[0] = torch.jit.trace(D[0], X)
    loop = fbwrap.attach(G, D, [("1", "1")], example=X)
    assert torch.equal(loop(X), G(X))
    inner = nn.Sequential(torch.jit.script(nn.Sequential(conv(3, 8), nn.ReLU())), conv(8, 3))
    with pytest.raises(LayerNotFoundError):
        fbwrap.attach(inner, critic(), [("0.1", "1")], example=X)
    with pytest.raises(UnsupportedError, match="scripted or traced"):
        fbwrap.attach(torch.jit.script(generator()), critic(), [("1", "1")], example=X)
    for made in (lambda: torch.jit.trace(loop, X), lambda: torch.jit.script(loop)):
        with pytest.raises(Exception, match=r"loop\.export"):  # torch wraps it in an error of its own
            made()


def test_networks_without_memory_are_refused_at_once():
    with torch.device("meta"):
        empty = generator()
    for G, D in ((empty, critic()), (generator(), empty)):
        with pytest.raises(UnsupportedError, match="meta"):
            fbwrap.attach(G, D, [("1", "1")], example=X)
    accelerate = pytest.importorskip("accelerate")
    offloaded = generator()
    accelerate.cpu_offload(offloaded, torch.device("cpu"))
    with pytest.raises(UnsupportedError, match=r"offloaded by accelerate.*device_map"):
        fbwrap.attach(offloaded, critic(), [("1", "1")], example=X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_themselves_or_refused(tmp_path):
    def mlp(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval()

    def quantised(seed):
        return torch.ao.quantization.quantize_dynamic(mlp(seed), {nn.Linear}, dtype=torch.qint8)

    z, D = torch.randn(2, 2), mlp(5)
    G = quantised(0)
    loop = fbwrap.attach(G, D, ["1"], example=z)
    assert torch.equal(loop(z), G(z))
    loop.save_pretrained(tmp_path / "head")
    fbwrap.from_pretrained(tmp_path / "head", quantised(0), D)
    with pytest.raises(HeadError, match="other weights"):
        fbwrap.from_pretrained(tmp_path / "head", quantised(1), D)
    with pytest.raises(HeadError, match=r"quantised weights.*discriminator='none'"):
        fbwrap.attach(mlp(0), quantised(5), ["1"], example=z).save_pretrained(tmp_path / "d", discriminator="all")


# -- what moves by itself -----------------------------------------------------------------------------
class OwnSpectral(nn.Module):
    """A spectral norm of somebody's own: its vector moves in eval mode too, through ``.data``."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.u = nn.Parameter(torch.randn(layer.weight.shape[0]), requires_grad=False)
        self.raw = nn.Parameter(layer.weight.data)
        del layer._parameters["weight"]

    def forward(self, x):
        w = self.raw.flatten(1)
        v = nn.functional.normalize(w.data.t() @ self.u.data, dim=0)
        self.u.data = nn.functional.normalize(w.data @ v, dim=0)
        self.layer.weight = self.raw / self.u.dot(w.mv(v))
        return self.layer(x)


def test_a_head_still_fits_after_g_and_d_have_run(tmp_path):
    torch.manual_seed(0)
    G, D = nn.Sequential(OwnSpectral(conv(3, 8)), nn.ReLU(), conv(8, 3)), critic()
    D[0] = OwnSpectral(D[0])
    fbwrap.attach(G, D, [("1", "1")], example=X).save_pretrained(tmp_path)
    for _ in range(3):
        G(X)
        D(X)
    loop = fbwrap.from_pretrained(tmp_path, G, D)
    with torch.no_grad():
        G[2].weight.add_(1.0)
    loop.detach()
    with pytest.raises(HeadError, match="other weights"):
        fbwrap.from_pretrained(tmp_path, G, D)


def test_state_in_plain_attributes_is_as_if_the_loop_were_not_there():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.h = conv(3, 8), conv(8, 3), 0.0

        def forward(self, z):
            self.h = 0.5 * self.h + self.a(z).detach()
            return self.b((self.a(z) + self.h).relu())

    torch.manual_seed(0)
    G = Remembering()
    loop = fbwrap.attach(G, critic(), [("b", "1")], example=X)
    assert isinstance(G.h, float), "attach leaves it as it was"
    assert "G changes its own attributes (h)" in str(loop.plan.notes)
    plain = [G(X), G(X)]
    G.h = 0.0
    assert all(torch.equal(a, b) for a, b in zip(plain, [loop(X), loop(X)], strict=True))


def test_a_d_that_holds_what_cannot_be_copied_trains_and_saves(tmp_path):
    D = critic()
    D.settings = types.ModuleType("settings")
    loop = fbwrap.attach(generator().eval(), D, [("1", "1")], example=X)
    fit = fbwrap.recipes.AFL(loop, loss="hinge", batch=2).fit(
        X.repeat(4, 1, 1, 1), X.repeat(4, 1, 1, 1), 2, progress=False
    )
    assert fit.steps == 2
    loop.save_pretrained(tmp_path, discriminator="all")


# -- no pass of a loop moves a statistic ----------------------------------------------------------------
def test_a_loop_in_train_mode_moves_no_statistic_by_any_door():
    torch.manual_seed(0)
    G = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), conv(8, 3))
    D = patch(norm=nn.BatchNorm2d)
    x = torch.randn(4, 3, 16, 16)
    before = state(G, D)
    loop = fbwrap.attach(G, D, [("2", "1")], example=x, steps=2)
    assert G.training
    loop(x)
    loop.rollout(x)
    with loop.settings(strength=0.3, steps=1):
        loop(x)
    with loop.installed():
        G(x)
    loop.rollout(x, steps=0)
    assert same(before, state(G, D))
    G(x)
    assert not same(before, state(G, D)), "G alone is what it was: its statistics move in train mode"
    loop.detach()


# -- the process's own settings -----------------------------------------------------------------------
def test_the_compile_stance_is_what_it_was_after_any_order_of_two_loops():
    import threading

    from torch._dynamo import eval_frame

    loops = []
    for _ in range(2):
        G = generator()
        G[0].compile(backend="eager")
        loops.append(fbwrap.attach(G, critic(), [("1", "1")], example=X))
    before = eval_frame._stance.stance
    inside, go = threading.Event(), threading.Event()

    def wait(module, given, output):
        inside.set()
        assert go.wait(30)

    handle = loops[0].generator[2].register_forward_hook(wait)
    thread = threading.Thread(target=loops[0], args=(X,))
    thread.start()
    assert inside.wait(30)
    loops[1](X)
    go.set()
    thread.join()
    handle.remove()
    loops[1](X)
    assert eval_frame._stance.stance == before
