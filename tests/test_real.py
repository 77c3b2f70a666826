"""Networks and weights that nobody here made; skipped where the research data is not at hand."""

import os
import sys
from pathlib import Path

import pytest
import torch
from fbwrap.recipes import AFL
from helpers import same, state, stir

import fbwrap

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("FBWRAP_DATA", ROOT.parent / "shared" / "data"))
sys.path.insert(0, str(ROOT / "examples"))
pytestmark = pytest.mark.skipif(
    not (DATA / "weights").is_dir(), reason=f"no pretrained pairs at {DATA} (set FBWRAP_DATA to have them tested)"
)
PAIRS = {
    "wgangp_mnist": ("WganMnistG", "WganMnistD"),
    "cvaegan_mnist": ("CvaeGanG", "CvaeGanD"),
    "dcgan_faces32": ("FacesG", "FacesD"),
}


def pair(name):
    import networks
    from safetensors.torch import load_file

    G, D = (
        networks.load(getattr(networks, kind)(), DATA / "weights" / f"{name}_{which}.safetensors")
        for kind, which in zip(PAIRS[name], "GD", strict=True)
    )
    reference = load_file(DATA / "weights" / "reference_io.safetensors")
    inputs = tuple(reference[f"{name}.{k}"] for k in "zy" if f"{name}.{k}" in reference)
    assert torch.allclose(G(*inputs), reference[f"{name}.x"], atol=1e-4)
    return G, D, inputs


@pytest.mark.parametrize(
    ("name", "layers", "options"),
    [
        ("wgangp_mnist", "auto", {}),
        ("wgangp_mnist", [("gen.1", "crit.1"), ("gen.2", "crit.0")], {"module": "light", "steps": 2}),
        ("cvaegan_mnist", "auto", {"critic_input": "output_and_label"}),
        ("cvaegan_mnist", [("conv_layers.5", "conv_layers.1")], {"critic_input": "output_and_label", "steps": 3}),
        ("dcgan_faces32", "auto", {}),
        ("dcgan_faces32", ["generator_deconv.?"], {"module": "light"}),
        ("dcgan_faces32", ["generator_deconv.2"], {"module": "ast", "steps": 3}),
    ],
)
def test_attach_round_trip_and_detach(name, layers, options, tmp_path):
    G, D, inputs = pair(name)
    before = state(G, D)
    loop = fbwrap.attach(G, D, layers, example=inputs, **options)
    assert torch.equal(loop(*inputs), G(*inputs))
    stir(loop, std=0.1).save_pretrained(tmp_path)
    y = loop(*inputs)
    assert torch.isfinite(y).all()
    assert not torch.equal(y, G(*inputs))
    assert torch.equal(fbwrap.from_pretrained(tmp_path, *pair(name)[:2])(*inputs), y)
    loop.detach()
    assert same(before, state(G, D))


@pytest.mark.parametrize("how", [{"layers": "auto:every resolution"}, {"layers": "auto", "adapter": None}])
def test_auto_finds_the_faces_stages(how):
    G, D, inputs = pair("dcgan_faces32")
    loop = fbwrap.attach(G, D, example=inputs, **how)
    pairs = [(str(c.target), c.form.spatial, c.sources[0].form.spatial) for c in loop.connections]
    assert pairs == [
        ("generator_deconv.1", (4, 4), (4, 4)),
        ("generator_deconv.2", (8, 8), (8, 8)),
        ("generator_deconv.3", (16, 16), (16, 16)),
    ]


def test_the_faces_are_a_dcgan():
    G, D, _ = pair("dcgan_faces32")
    loop = fbwrap.attach(G, D)
    assert [str(c) for c in loop.connections] == ["generator_deconv.2 <- dual <- discriminator.1"]
    assert loop.facts.adapter["generator"] == "dcgan: transposed convolutions"


@pytest.mark.slow
def test_the_conditional_pair_is_trained(tmp_path):
    """Some steps of AFL on cvaegan_mnist; the head round-trips with the D that phase 2 made."""
    import numpy as np

    G, D, inputs = pair("cvaegan_mnist")
    z = np.load(DATA / "mnist.npz")
    x = torch.from_numpy(z["x_test"][:4000]).float()[:, None] / 127.5 - 1
    y = torch.from_numpy(z["y_test"][:4000]).long()

    def latents(n):
        return torch.randn(n, 64), torch.randint(0, 10, (n,))

    links = [("conv_layers.5", "conv_layers.1")]
    loop = fbwrap.attach(G, D, links, critic_input="output_and_label", example=inputs)
    before = state(G, D)
    fit = AFL(loop, lr=2e-4, batch=16, loss="least_squares", r1=0.1).fit((x, y), latents, 40, progress=False)
    assert fit.steps == 40
    assert same(before, state(G, D))
    loop.save_pretrained(tmp_path)
    again = fbwrap.from_pretrained(tmp_path, *pair("cvaegan_mnist")[:2])
    assert torch.equal(again(*inputs), loop(*inputs))
    assert not torch.equal(loop(*inputs), G(*inputs))
