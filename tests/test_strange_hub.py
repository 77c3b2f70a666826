"""What strangers put on the Hub, and what the Hub does: checked first, said in one sentence, run never."""

import json

import pytest
import torch
from helpers import made, sr_files
from hubserver import Repo
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import HeadError, SettingError


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Deconv().eval(), patch().eval()


def test_a_server_that_sends_more_than_it_announced_is_cut_off(hub, nets):
    made(nets).push_to_hub("me/head", token=hub.token)
    hub.flooding = 256
    with pytest.raises(fbwrap.FbwrapError, match=r"sends more of .* than the \d+ bytes.*cut off"):
        fbwrap.from_pretrained("me/head", *nets)
    assert hub.flooded < 64, "not read to its end"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c, f: f.update({"feedback.safetensors": f["feedback.safetensors"] + b"x" * 999}), "at most"),
        (lambda c, f: f.update({"config.json": b"{" + b" " * (5 << 20)}), "at most"),
        (
            lambda c, f: c["files"].update({"../../evil": c["files"]["feedback.safetensors"]}),
            "names files that no head has",
        ),
        (lambda c, f: c["files"].update({"feedback.safetensors": "x"}), "'files' is .* which no head has"),
        (lambda c, f: c["files"]["feedback.safetensors"].update(bytes=10**12), "more than max_bytes"),
        (lambda c, f: c["files"]["feedback.safetensors"].update(bytes=True), "'files' is .* which no head has"),
        (lambda c, f: f.update({"config.json": b"[" * 200_000}), "cannot be read"),
        (
            lambda c, f: c.update(example=[{"shape": [10**7, 10**7], "dtype": "float32"}]),
            "'example' is .* which no head has",
        ),
        (lambda c, f: c.update(dtype="object"), "'dtype' is 'object'"),
        (lambda c, f: f.update({"feedback.safetensors": f["feedback.safetensors"][:-1] + b"?"}), "size or hash"),
    ],
)
def test_what_a_stranger_uploads_is_checked_first(hub, nets, change, says, tmp_path):
    made(nets).push_to_hub("me/head", token=hub.token)
    repo = hub.repos["me/head"]
    files = dict(repo.at("main")[1])
    config = json.loads(files["config.json"])
    kept = files["config.json"]
    change(config, files)
    if files["config.json"] == kept:
        files["config.json"] = json.dumps(config).encode()
    repo.refs["main"] = repo.commit(files)
    before = len(hub.seen)
    with pytest.raises(HeadError, match=says):
        fbwrap.from_pretrained("me/head", *nets)
    if len(files["config.json"]) > 4 << 20:
        assert not [line for line in hub.seen[before:] if line.startswith("GET") and "config.json" in line]
    assert not [line for line in hub.seen[before:] if "evil" in line]
    if says == "at most":
        assert not [
            line for line in hub.seen[before:] if line.startswith("GET /blob") and len(files["config.json"]) < 9999
        ]
    assert not list(tmp_path.rglob("evil"))


def test_words_in_a_strangers_config_stay_words(hub, nets):
    from fbwrap.heads.card import card

    evil = "G\nimport os; os.system('x')  #"
    config = {
        "links": [{"target": "`a`", "sources": ["```\nimport os"], "module": {"kind": "dual"}}],
        "generator": {"class": evil}, "discriminator": {"class": "D"}, "critic_input": None, "own_response": True,
        "trained_on": {"data": "```python\nimport os\n```"},
        "adapter": {"generator": "dcgan: x", "citations": ["<script>x</script>"]},
    }  # fmt: skip
    text = card(config, "me/head", pictures=["a b.png"])
    code = text.split("```python\n")[1].split("```")[0]
    assert "os.system" not in code
    assert "critic_input=your_function, response=your_function" in code
    assert text.count("```") == 2
    assert "<script>" not in text
    assert "(a%20b.png)" in text


def published(hub, name, files):
    repo = hub.repos.setdefault(name, Repo())
    repo.refs["main"] = repo.commit(files)
    return repo.refs["main"]


@pytest.mark.parametrize(
    "name",
    ["spandrel:them/sr/x2.safetensors", "spandrel:/etc/passwd@" + "0" * 40, "spandrel:../../x@" + "0" * 40,
     "os:system/x@" + "0" * 40, "spandrel:them/sr/../x@" + "0" * 40, None],
)  # fmt: skip
def test_a_strangers_config_chooses_no_file_and_no_code(hub, nets, tmp_path, name):
    made(nets, trained=False).save_pretrained(tmp_path / "head")
    config = json.loads((tmp_path / "head" / "config.json").read_text())
    (tmp_path / "head" / "config.json").write_text(json.dumps(config | {"base": name}))
    with pytest.raises(fbwrap.FbwrapError, match=r"does not say where|pass a torch"):
        fbwrap.load_pretrained(tmp_path / "head")
    assert not hub.seen


def test_no_pickle_is_read_from_the_hub_whatever_its_name(hub, tmp_path, monkeypatch):
    pytest.importorskip("spandrel")
    import io

    packed = io.BytesIO()
    torch.save(sr_files(), packed)
    for name in ("x2.json", "config.json", "sub/config.json"):
        published(hub, "evil/sr", {name: packed.getvalue()})
        with monkeypatch.context() as patched:
            patched.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle is read"))
            with pytest.raises(SettingError, match="not safetensors"):
                fbwrap.attach(f"spandrel:evil/sr/{name}", None, [fbwrap.Link("body.2", "image")])


def test_a_strangers_autoencoder_fails_in_one_sentence(hub, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    from safetensors.torch import save

    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1)
    vae.save_pretrained(tmp_path / "vae")
    files = {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()}
    config = json.loads(files["config.json"])
    weights = "diffusion_pytorch_model.safetensors"
    for change, says in (
        ({"config.json": json.dumps(config | {"norm_num_groups": 0}).encode()}, "cannot be read"),
        ({"config.json": json.dumps(config | {"block_out_channels": []}).encode()}, "cannot be read"),
        ({"config.json": b"[" * 100_000}, "names a class"),
        ({"config.json": b" " * (5 << 20)}, "at most"),
        ({weights: save({"a": torch.zeros(1)})}, "is missing or does not fit|cannot be read"),
    ):
        published(hub, "evil/vae", {**files, **change})
        with pytest.raises(fbwrap.FbwrapError, match=says):
            fbwrap.attach("diffusers:evil/vae", None, [fbwrap.Link("decoder.mid_block", "image")])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["links"][0]["module"].update(convs=200_000), "fits none of its weights"),
        (lambda c: c["links"][0]["module"].update(hidden=15_000), "fits none of its weights"),
        (lambda c: c["links"].extend(c["links"] * 2000), "'links' is .* which no head has"),
        (
            lambda c: c.update(example=[[{"shape": [1 << 27], "dtype": "float32"}] * 40, {"mapping": {}}]),
            "'example' is .* which no head",
        ),
        (
            lambda c: c.update(critic_spec=["timm:x(" + "-" * 10**6 + "1)", [-1, 1]]),
            "'critic_spec' is .* which no head has",
        ),
        (lambda c: c["discriminator"].update(unused=5), "damaged"),
        (lambda c: c["adapter"].update(value_range="ab"), "'adapter' is .* which no head has"),
        (lambda c: c["adapter"].update(value_range=[0, 0]), "'adapter' is .* which no head has"),
        (lambda c: c["links"][0].update(module=[["kind", "dual"]]), "'module' of link 0 is"),
    ],
)
def test_nothing_large_is_made_of_a_strangers_config(nets, tmp_path, change, says):
    made(nets).save_pretrained(tmp_path / "head")
    path = tmp_path / "head" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(HeadError, match=says):
        fbwrap.from_pretrained(tmp_path / "head", *nets)


def test_a_modules_name_is_no_code_in_the_card():
    from fbwrap.heads.card import card

    evil = 'x": __import__("os").system("echo"), "y'
    config = {
        "links": [{"target": "a", "sources": ["image"], "module": {"kind": evil}, "own_module": True}],
        "generator": {"class": "G"}, "discriminator": None, "critic_input": "output", "own_response": False,
        "trained_on": {"data": "[click](http://evil)"}, "adapter": {},
    }  # fmt: skip
    text = card(config, "me/head")
    assert "__import__" not in text.split("```python")[1].split("```")[0]
    assert "](http" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see https://evil.example/x", "see https: //evil.example/x"),
        ("WWW.evil.example", "WWW .evil.example"),
        ("somebody@evil.example", "somebody at evil.example"),
        ("mailto:x", "mailto :x"),
        ("[here](ftp://evil.example)", "[here] (ftp: //evil.example)"),
        ("CIFAR-10, 3:1", "CIFAR-10, 3:1"),
    ],
)
def test_a_strangers_words_in_a_card_are_no_links(text, words):
    from fbwrap.heads.card import card, plain

    assert plain(text) == words
    config = {"links": [], "trained_on": {"data": text, "held_out": {"1.0": 0.5}}, "generator": {"class": "G"}}
    told = card(config, "me/head")
    assert words in told
    assert "by share of the strength in training: 1.0: 0.500." in told
