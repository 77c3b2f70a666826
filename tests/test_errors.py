"""Wrong input gets a sentence that names the thing, the cause and the next step."""

import pytest
import torch
from torch import nn
from zoo import ZOO, Conditional, Deconv, Residual, Trees, patch

import fbwrap
from fbwrap import Link, errors

X = torch.randn(2, 3, 8, 8)


def attach(layers, G=None, D=None, example=X, **options):
    return fbwrap.attach(G or Residual(), D or patch(), layers, example=example, **options)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        (["bdy.1"], errors.LayerNotFoundError, ["'bdy.1'", "Residual", "Did you mean", "'body.1'", "fbwrap.layers"]),
        ([("body.1", "99")], errors.LayerNotFoundError, ["'99'", "Sequential", "fbwrap.layers"]),
        (["body.1", "tale.*"], errors.LayerNotFoundError, ["No layer matches 'tale.*'", "Residual"]),
        ([Link("body.1[3]", "1")], errors.PairingError, ["body.1", "no feature at body.1[3]", "(2, 8, 8, 8)"]),
        (["body.1#4"], errors.LayerNotCalledError, ["body.1", "1 time(s)", "no call #4"]),
        (["body[1"], errors.LayerNotFoundError, ["'body[1'", "NAME#CALL"]),
        ([("a", "b", "c")], errors.SettingError, ["('a', 'b', 'c')", "pair", "fbwrap.Link"]),
        ([7], errors.SettingError, ["contains 7"]),
        ([], errors.SettingError, ["attaches nothing"]),
        ([nn.Conv2d(1, 1, 1)], errors.LayerNotFoundError, ["Conv2d", "not a layer of Residual", "fbwrap.layers"]),
    ],
)
def test_layers(layers, error, words):
    with pytest.raises(error) as caught:
        attach(layers)
    assert isinstance(caught.value, fbwrap.FbwrapError)
    for word in words:
        assert word in str(caught.value)


def test_layer_that_is_never_called():
    G = Residual()
    G.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(errors.LayerNotCalledError, match=r"'unused' exists, but .* does not call it .* fbwrap.layers"):
        attach(["unused"], G)


def test_layer_called_several_times_without_saying_which():
    G, D, args, _ = ZOO["reused"].build()
    with pytest.raises(errors.LayerNotCalledError, match=r"called 3 times .* 'block#0' to 'block#2'"):
        fbwrap.attach(G, D, ["block"], example=args)


def test_layer_with_several_tensors():
    with pytest.raises(errors.PairingError, match=r"pair\[0\] .*pair\[1\]\[skip\]"):
        attach(["pair"], Trees(), example=torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize(
    ("example", "error", "words"),
    [
        (None, errors.ExampleError, ["example=", "tuple of positional", "dict of keyword"]),
        (torch.randn(2, 5, 8, 8), errors.ExampleError, ["refuses the example", "(2, 5, 8, 8)", "example="]),
        (torch.full((1, 3, 8, 8), torch.nan), errors.ExampleError, ["NaN"]),
    ],
)
def test_example(example, error, words):
    with pytest.raises(error) as caught:
        attach(["body.1"], example=example)
    for word in words:
        assert word in str(caught.value)


def test_d_refuses_what_g_returns():
    with pytest.raises(
        errors.CriticError, match=r"D refuses G's output \(shapes \[\(2, 3, 16, 16\)\]\).*critic_input="
    ):
        attach(["body.1"], D=patch(6))
    G, D, args, loop = ZOO["list_of_responses"].build()
    with pytest.raises(errors.CriticError, match=r"critic_input="):
        loop(torch.randn(1, 3, 1, 1))


def test_d_answers_nan():
    D = patch()
    nn.init.constant_(D[0].weight, torch.nan)
    with pytest.raises(errors.CriticError, match="D answers NaN"):
        attach(["body.1"], D=D)


def test_critic_input_that_fails():
    with pytest.raises(errors.CriticError, match=r"critic_input failed .* KeyError"):
        attach(["body.1"], critic_input=lambda y, x: {}["no"])
    with pytest.raises(errors.SettingError, match="'cat' is not one of output, condition_and_output"):
        attach(["body.1"], critic_input="cat")
    with pytest.raises(errors.SettingError, match="neither"):
        attach(["body.1"], critic_input=3)


def test_shapes_that_cannot_be_paired():
    class Whole(nn.Module):  # answers once for the batch
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).mean(0, keepdim=True)

    with pytest.raises(errors.PairingError, match=r"'response' has batch size 1 .* target 2"):
        attach([("body.1", "response")], D=Whole())
    with pytest.raises(errors.PairingError, match="needs a discriminator"):
        fbwrap.attach(Residual(), None, [("body.1", "response")], example=X)
    alone = fbwrap.attach(Residual(), None, ["body.1"], example=X)
    assert [source.name for source in alone.connections[0].sources] == ["image"]
    fbwrap.attach(Residual(), None, [("body.1", "image")], example=X)(X)


def test_several_responses_and_none_chosen():
    G, D, args, _ = ZOO["list_of_responses"].build()
    with pytest.raises(errors.CriticError, match=r"returns 4 tensors \(\[0\]\[0\].*response="):
        fbwrap.attach(G, D, [("body.1", "response")], example=args)
    with pytest.raises(errors.CriticError, match=r"nothing at response='\[7\]'"):
        fbwrap.attach(G, D, [("body.1", "response")], example=args, response="[7]")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"module": "dul"}, "no feedback module 'dul'. There are basic, dual"),
        ({"module": {"kind": "dual", "convz": 3}}, "cannot be made with options"),
        ({"module": {"kind": "dual", "norm": "bath"}}, "norm='bath' is not one of"),
        ({"module": {"kind": "dual", "init": "one"}}, "init='one' is not one of"),
        ({"module": nn.Identity()}, "each link needs its own"),
        ({"module": 3}, "module=3"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"strength": "1"}, "strength='1'"),
        ({"critic_mode": "train"}, "critic_mode='train'"),
        ({"first": "one"}, "first='one'"),
    ],
)
def test_settings(options, words):
    with pytest.raises(errors.SettingError) as caught:
        attach(["body.1"], **options)
    assert words in str(caught.value)


def test_settings_of_a_loop():
    loop = attach(["body.*"])
    for wrong in (-1, True, None, 2.0):
        with pytest.raises(errors.SettingError):
            loop.steps = wrong
    with pytest.raises(errors.SettingError, match=r"No link corrects 'body.9'.*0: body.0"):
        loop["body.9"]
    with pytest.raises(errors.SettingError, match="There is no link 4"):
        loop[4]
    with (
        pytest.raises(errors.PairingError, match="3 samples does not fit a batch of 2"),
        loop.settings(strength=torch.ones(3)),
    ):
        loop(X)
    with (
        pytest.raises(errors.PairingError, match="does not fit samples with 2 spatial"),
        loop.settings(strength=torch.ones(2, 3, 16, 16)),
    ):
        loop(X)


def test_not_a_module():
    with pytest.raises(errors.SettingError, match=r"generator='G': pass a torch\.nn\.Module"):
        fbwrap.attach("G", patch(), example=X)
    with pytest.raises(errors.SettingError, match="discriminator=3 is not a"):
        fbwrap.attach(Residual(), 3, example=X)


def test_g_without_an_image():
    class Words(nn.Module):
        def forward(self, x):
            return ["no", "tensor"]

    with pytest.raises(errors.CriticError, match="no sample to look at"):
        fbwrap.attach(Words(), patch(), example=X)


def test_layers_lists_and_refuses():
    table = fbwrap.layers(Conditional(), torch.randn(2, 6), torch.tensor([0, 1]))
    assert {row.name: row.shapes for row in table}["up.0"] == ("(2, 8, 8, 8)",)
    assert "up.0   ConvTranspose2d  (2, 8, 8, 8)" in str(table)
    assert len(fbwrap.layers(Deconv())) == 9
    with pytest.raises(errors.ExampleError, match="Deconv refuses the example"):
        fbwrap.layers(Deconv(), torch.randn(1, 2))


def test_every_error_is_an_fbwrap_error_and_a_standard_one():
    for name, error in vars(errors).items():
        if isinstance(error, type) and error is not fbwrap.FbwrapError:
            assert issubclass(error, fbwrap.FbwrapError), name
            assert len(error.__mro__) > 4, name


def test_a_g_without_forward_and_the_method_that_it_has():
    class Sampler(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

        def sample(self, z):
            return self.b(self.a(z).relu())

    x, D = torch.randn(2, 3, 8, 8), patch()
    for ask in (lambda: fbwrap.attach(Sampler(), D, example=x), lambda: fbwrap.layers(Sampler(), x)):
        with pytest.raises(errors.ExampleError, match=r"Sampler has no forward.*one of sample: .*method=NAME"):
            ask()
    assert "(2, 8, 8, 8)" in str(fbwrap.layers(Sampler(), x, method="sample"))
    G = Sampler()
    assert torch.equal(fbwrap.attach(G, D, [("a", "1")], example=x, method="sample")(x), G.sample(x))


def test_a_response_that_is_not_clear_is_said_at_attach(caplog):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = patch()

        def forward(self, image):
            return self.net(image), image.mean((1, 2, 3))

    G = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    x = torch.randn(2, 3, 16, 16)
    loop = fbwrap.attach(G, Two(), [("0", "net.0")], example=x)
    assert "D returns 2 tensors ([0] (2, 1, 4, 4), [1] (2,))" in caplog.text
    assert torch.equal(loop(x), G(x))
    with pytest.raises(errors.SettingError, match=r"Perhaps response="):
        fbwrap.recipes.AFL(loop, loss="bce")
    caplog.clear()
    loop.detach()
    fbwrap.recipes.AFL(fbwrap.attach(G, Two(), [("0", "net.0")], example=x, response="[0]"), loss="bce")
    assert not caplog.text


def test_what_torch_export_cannot_follow_is_one_sentence():
    class OwnNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.u = nn.Parameter(torch.randn(4), requires_grad=False)
            self.raw = nn.Parameter(self.conv.weight.data)
            del self.conv._parameters["weight"]

        def forward(self, image):
            w = self.raw.flatten(1)
            v = torch.nn.functional.normalize(w.data.t() @ self.u.data, dim=0)
            self.u.data = torch.nn.functional.normalize(w.data @ v, dim=0)
            self.conv.weight = self.raw / self.u.dot(w.mv(v))
            return self.conv(image)

    G = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    D = nn.Sequential(OwnNorm(), nn.ReLU(), nn.Conv2d(4, 1, 8))
    x = torch.randn(2, 3, 8, 8)
    loop = fbwrap.attach(G, D, [("0", "1")], example=x)
    with pytest.raises(errors.UnsupportedError, match=r"torch\.export cannot make one graph") as caught:
        loop.export(x)
    assert len(str(caught.value)) < 500
    assert torch.equal(loop(x), G(x))


class ThreeInputs(torch.nn.Module):
    """InfoGAN's generator: it looks like a DCGAN's of one latent."""

    def __init__(self):
        super().__init__()
        self.l1 = torch.nn.Linear(8, 16 * 16)
        self.blocks = torch.nn.Sequential(
            torch.nn.BatchNorm2d(16), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(16, 8, 3, 1, 1),
            torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(8, 1, 3, 1, 1), torch.nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise, labels, code):
        return self.blocks(self.l1(torch.cat((noise, labels, code), -1)).view(-1, 16, 4, 4))


def test_inputs_that_no_adapter_can_make_are_named():
    D = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 4, 2, 1), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 4))
    with pytest.raises(errors.ExampleError, match=r"takes noise, labels, code: pass .*example=\(noise, labels"):
        fbwrap.attach(ThreeInputs(), D)
    given = (torch.randn(2, 4), torch.randn(2, 2), torch.randn(2, 2))
    assert fbwrap.attach(ThreeInputs(), D, example=given).plan.links
