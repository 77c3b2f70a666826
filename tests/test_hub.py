"""Heads over real HTTP: a hub on localhost, huggingface_hub's own client."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commandline import command
from helpers import Z, made, sr_files, stir
from hubserver import Repo
from safetensors.torch import load_file
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import HeadError, HubError, SettingError


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Deconv().eval(), patch().eval()


def test_there_and_back(hub, nets, caplog):
    loop = made(nets)
    loop.strength, loop.steps = 0.5, 2
    with caplog.at_level(logging.INFO, "fbwrap"):
        address = loop.push_to_hub("me/head", token=hub.token, license="mit", private=False)
        again = fbwrap.from_pretrained("me/head", *nets)
    repo = hub.repos["me/head"]
    head = repo.refs["main"]
    assert address == f"{hub.url}/me/head/commit/{head}"
    assert len(repo.commits) == 2, "the empty one, and one commit for all files"
    pictures = {"difference.png", "strengths.png"}
    assert set(repo.commits[head]) == {
        "README.md", "config.json", "feedback.safetensors", "discriminator.safetensors", *pictures,
    }  # fmt: skip
    assert all(f"]({name})" in repo.commits[head]["README.md"].decode() for name in pictures)
    assert torch.equal(again(Z), loop(Z))
    assert (again.strength, again.steps) == (0.5, 2)
    assert f"commit {head}" in caplog.text
    before = len(hub.seen)
    assert torch.equal(fbwrap.from_pretrained("me/head", *nets, local_files_only=True)(Z), loop(Z))
    assert len(hub.seen) == before, "the cache alone"


@pytest.fixture
def three_heads(hub, nets):
    loop = made(nets)
    faces = {"task": "unconditional-image-generation", "base_model": "them/gan", "license": "mit"}
    for name, about in (("me/faces", faces), ("me/photos", {}), ("you/faces-too", faces)):
        loop.push_to_hub(name, token=hub.token, pictures=[], private=False, **about)
    loop.push_to_hub("me/secret", token=hub.token, pictures=[], private=True)
    hub.repos["me/no-head"] = Repo()
    for name, downloads in (("me/photos", 7), ("you/faces-too", 3)):
        hub.repos[name].downloads = downloads
    return hub


def test_heads_are_listed(three_heads):
    def names(*words, **options):
        return [head.repo_id for head in fbwrap.list_heads(*words, **options)]

    assert names() == ["me/photos", "you/faces-too", "me/faces"]
    assert names("faces") == ["you/faces-too", "me/faces"]
    assert names(author="me") == ["me/photos", "me/faces"]
    assert names(base="them/gan") == ["you/faces-too", "me/faces"]
    assert names(base="them/other") == []
    assert names(task="image-to-image") == ["me/photos"]
    assert names(limit=1) == ["me/photos"]
    head = fbwrap.list_heads("faces-too")[0]
    assert (head.base, head.task, head.downloads) == ("them/gan", "unconditional-image-generation", 3)
    assert "fbwrap" in head.tags
    assert str(head) == ("you/faces-too   base them/gan   unconditional-image-generation   3 downloads   2026-01-31")
    for limit in (0, 1001, 1.5, True):
        with pytest.raises(SettingError, match="limit="):
            fbwrap.list_heads(limit=limit)


def test_heads_are_searched_from_the_command_line(three_heads):
    done = command("search", "faces", "--base", "them/gan", "--json")
    assert done.exit_code == 0, done.output
    assert [head["repo_id"] for head in json.loads(done.stdout)["heads"]] == ["you/faces-too", "me/faces"]
    assert "me/photos" in command("search").output
    assert "No head was found." in command("search", "nothing-like-it").output


def test_a_hub_that_is_not_reached_is_one_sentence(hub):
    hub.fail("GET /api/models", times=20)
    with pytest.raises(HubError, match="The list of heads"):
        fbwrap.list_heads()


def test_the_card_is_true_and_is_not_written_over(hub, nets, tmp_path):
    from huggingface_hub import ModelCard

    (tmp_path / "sweep.png").write_bytes(b"\x89PNG")
    loop = made(nets)
    metrics = [{"name": "frechet[LeNet f6]", "value": 7.5, "dataset": "MNIST", "base": 97.7}]
    about = {"license": "mit", "base_model": "them/gan", "tags": ["digits"], "task": "unconditional-image-generation"}
    loop.push_to_hub("me/head", token=hub.token, metrics=metrics, pictures=[tmp_path / "sweep.png"], **about)
    files = hub.repos["me/head"].at("main")[1]
    card = ModelCard(files["README.md"].decode())
    data = card.data.to_dict()
    assert (data["library_name"], data["license"], data["base_model"]) == ("fbwrap", "mit", "them/gan")
    assert data["tags"] == ["fbwrap", "afl", "dcgan", "digits"]
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 7.5
    assert "| frechet[LeNet f6] | MNIST | 97.7 | 7.5 |" in card.text
    assert "![sweep.png](sweep.png)" in card.text
    assert "sweep.png" in files
    snippet = card.text.split("```python\n")[1].split("```")[0]
    G, D = nets
    scope = {"G": G, "D": D}
    exec(snippet, scope)
    assert scope["y"].shape == loop(Z).shape
    assert torch.equal(scope["loop"](Z), loop(Z))
    hub.repos["me/head"].refs["main"] = hub.repos["me/head"].commit({**files, "README.md": b"mine"})
    made(nets, trained=False).push_to_hub("me/head", token=hub.token)
    files = hub.repos["me/head"].at("main")[1]
    assert files["README.md"] == b"mine"
    assert "discriminator.safetensors" not in files, "this head needs none: the old one would not fit"
    assert torch.equal(fbwrap.from_pretrained("me/head", G, D)(Z), made(nets, trained=False)(Z))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_the_size(hub, nets, dtype, tmp_path):
    loop = made(nets)
    loop.push_to_hub("me/head", token=hub.token, dtype=dtype)
    again = fbwrap.from_pretrained("me/head", *nets)
    assert all(p.dtype == torch.float32 for p in again.parameters())
    stored = hub.repos["me/head"].at("main")[1]["feedback.safetensors"]
    (tmp_path / "f").write_bytes(stored)
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "f").values() if tensor.is_floating_point()}
    assert kinds == {{"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]}
    torch.testing.assert_close(again(Z), loop(Z), rtol=0.05, atol=0.02)
    assert not torch.equal(again(Z), loop(Z))
    with pytest.raises(HeadError, match="dtype='int8'"):
        loop.push_to_hub("me/head", token=hub.token, dtype="int8")


def test_revisions_branches_and_pull_requests(hub, nets):
    first, second = made(nets), made(nets)
    second.strength = 0.25
    first.push_to_hub("me/head", token=hub.token)
    old = hub.repos["me/head"].refs["main"]
    second.push_to_hub("me/head", token=hub.token, commit_message="Weaker")
    assert hub.repos["me/head"].messages == ["Upload a feedback head", "Weaker"]
    assert fbwrap.from_pretrained("me/head", *nets).strength == 0.25
    assert fbwrap.from_pretrained("me/head", *nets, revision=old).strength == 1.0
    first.push_to_hub("me/head", token=hub.token, revision="strong")
    assert fbwrap.from_pretrained("me/head", *nets, revision="strong").strength == 1.0
    assert fbwrap.from_pretrained("me/head", *nets).strength == 0.25
    address = first.push_to_hub("me/head", token=hub.token, create_pr=True)
    assert "/discussions/" in address
    assert fbwrap.from_pretrained("me/head", *nets).strength == 0.25
    with pytest.raises(HubError, match="no such revision"):
        fbwrap.from_pretrained("me/head", *nets, revision="nowhere")


def test_private_and_missing(hub, nets, tmp_path):
    loop = made(nets)
    loop.push_to_hub("me/secret", token=hub.token, private=True)
    assert torch.equal(fbwrap.from_pretrained("me/secret", *nets, token=hub.token)(Z), loop(Z))
    for ask in (
        lambda: fbwrap.from_pretrained("me/secret", *nets, token=False, cache_dir=tmp_path / "other"),
        lambda: fbwrap.from_pretrained("me/nothing", *nets),
        lambda: loop.push_to_hub("me/mine", token="wrong"),
    ):
        with pytest.raises(HubError, match="The Hub has no repository"):
            ask()
    assert "me/mine" not in hub.repos
    hub.repos["me/empty"] = type(hub.repos["me/secret"])()
    with pytest.raises(HubError, match="is not a head"):
        fbwrap.from_pretrained("me/empty", *nets)
    with pytest.raises(SettingError, match="write user/name"):
        loop.push_to_hub("just-a-name", token=hub.token)
    with pytest.raises(HeadError, match="There is no head at"):
        fbwrap.from_pretrained(tmp_path / "nowhere", *nets)
    with pytest.raises(SettingError, match="is a folder"):
        fbwrap.from_pretrained(tmp_path, *nets, revision="main")
    with pytest.raises(SettingError, match="each needs name, value, dataset"):
        loop.push_to_hub("me/head", token=hub.token, metrics=[{"name": "x"}])
    with pytest.raises(SettingError, match="There is no picture"):
        loop.push_to_hub("me/head", token=hub.token, pictures=[tmp_path / "none.png"])


def test_faults_of_the_server_are_tried_again(hub, nets):
    loop = made(nets)
    hub.fail("POST /api/repos/create", 1)
    loop.push_to_hub("me/head", token=hub.token)
    hub.fail("HEAD /me/head/resolve/main/config.json", 1, 500)
    hub.cut(1)
    assert torch.equal(fbwrap.from_pretrained("me/head", *nets)(Z), loop(Z)), (
        "an error, and a download cut off half-way"
    )
    assert hub.cutting == 0
    hub.fail("POST /api/models/me/head/commit", 9)
    loop.strength = 0.3
    with pytest.raises(HubError, match="could not be asked"):
        loop.push_to_hub("me/head", token=hub.token)
    hub.failing.clear()
    assert fbwrap.from_pretrained("me/head", *nets).strength == 1.0, "nothing half-written"


def test_without_a_network_the_cache_serves(hub, nets, tmp_path):
    loop = made(nets)
    loop.push_to_hub("me/head", token=hub.token)
    fbwrap.from_pretrained("me/head", *nets)
    hub.close()
    assert torch.equal(fbwrap.from_pretrained("me/head", *nets)(Z), loop(Z))
    with pytest.raises(HubError, match="not in the cache"):
        fbwrap.from_pretrained("me/head", *nets, cache_dir=tmp_path / "other")
    with pytest.raises(HubError, match="not in the cache"):
        fbwrap.from_pretrained("me/head", *nets, cache_dir=tmp_path / "other", local_files_only=True)
    with pytest.raises(HubError):
        loop.push_to_hub("me/head", token=hub.token)


def test_a_fresh_process_pulls_without_the_training_code(hub, nets, tmp_path):
    loop = made(nets)
    loop.push_to_hub("me/head", token=hub.token)
    torch.save([net.state_dict() for net in nets], tmp_path / "nets.pt")
    torch.save(loop(Z), tmp_path / "wanted.pt")
    code = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from zoo import Deconv, patch
import fbwrap
nets = Deconv().eval(), patch().eval()
for net, state in zip(nets, torch.load({str(tmp_path / "nets.pt")!r})):
    net.load_state_dict(state)
loop = fbwrap.from_pretrained("me/head", *nets)
z = torch.randn(3, 6, 1, 1, generator=torch.Generator().manual_seed(0))
assert torch.equal(loop(z), torch.load({str(tmp_path / "wanted.pt")!r}))
print([name for name in ("fbwrap.recipes", "accelerate") if name in sys.modules])
"""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    env["HF_HUB_OFFLINE"] = "0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def test_push_and_pull_from_the_command_line(hub, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app
    from fbwrap.app.models import load_model

    monkeypatch.setenv("HF_TOKEN", hub.token)
    spec = f"{Path(__file__).parent / 'zoo.py'}:"
    torch.manual_seed(0)
    G = load_model(spec + "Deconv()")
    torch.save(G.state_dict(), tmp_path / "g.pth")
    loop = stir(fbwrap.attach(G, None, [fbwrap.Link("main.5", "image")], example=Z))
    loop.save_pretrained(tmp_path / "head")
    networks = ["-g", spec + "Deconv()", "--weights", tmp_path / "g.pth", "--latent", "6x1x1", "--samples", "8"]
    for name in (["eval"], ["study", "strength"]):  # what they leave goes into the card
        done = CliRunner().invoke(app, list(map(str, [*name, tmp_path / "head", *networks])))
        assert done.exit_code == 0, done.output
    words = ["push", tmp_path / "head", "me/head", "--license", "mit", "--dataset", "noise"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert f"{hub.url}/me/head/commit/" in done.output
    files = hub.repos["me/head"].at("main")[1]
    assert {"strength.png", "eval.png"} <= set(files)
    assert "![strength.png](strength.png)" in files["README.md"].decode()
    done = CliRunner().invoke(app, ["pull", "me/head"])
    assert done.exit_code == 0, done.output
    assert torch.equal(fbwrap.from_pretrained(done.output.strip(), G)(Z), loop(Z))
    for words, sentence in (
        (["pull", "me/nothing"], "The Hub has no repository me/nothing"),
        (["pull", "nothing"], "write user/name"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 1
        assert sentence in done.output


def test_nothing_is_pushed_that_the_hub_or_the_card_would_not_take(hub, nets, tmp_path):
    loop = made(nets)
    (tmp_path / "config.json").write_text("{}")
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    pictures = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    for options, says in (
        ({"pictures": [tmp_path / "config.json"]}, "is not a picture"),
        ({"pictures": pictures}, "the same name"),
        ({"metrics": [{"name": "x", "value": float("nan"), "dataset": "y"}]}, "is not a number"),
        ({"license": "MIT License"}, "must be one of"),
    ):
        with pytest.raises(fbwrap.FbwrapError, match=says):
            loop.push_to_hub("me/head", token=hub.token, **options)
    assert not hub.repos.get("me/head") or not hub.repos["me/head"].at("main")[1]
    loop.push_to_hub("me/head", token=hub.token, metrics=[{"name": "x", "value": torch.tensor(1.5), "dataset": "y"}])
    assert b"value: 1.5" in hub.repos["me/head"].at("main")[1]["README.md"]
    with pytest.raises(SettingError, match="public"):
        loop.push_to_hub("me/head", token=hub.token, private=True)
    huge = made(nets)
    with torch.no_grad():
        next(huge.parameters()).fill_(1e6)
    with pytest.raises(HeadError, match="too large for dtype='fp16'"):
        huge.push_to_hub("me/head", token=hub.token, dtype="fp16")
    for name in ("../head", "me/a--b", "me/x.git"):
        with pytest.raises(fbwrap.FbwrapError):
            fbwrap.from_pretrained(name, *nets)


def test_a_pull_request_against_a_branch(hub, nets):
    loop = made(nets)
    loop.push_to_hub("me/head", token=hub.token, revision="dev")
    loop.push_to_hub("me/head", token=hub.token, revision="dev", create_pr=True)
    assert hub.requests("POST /api/models/me/head/commit/dev")[1:], "the second one too"
    loop.strength = 0.1
    loop.push_to_hub("me/head", token=hub.token, revision="refs/pr/2")
    assert fbwrap.from_pretrained("me/head", *nets, revision="refs/pr/2").strength == 0.1


def test_a_full_cache_serves_while_the_hub_is_down(hub, nets):
    loop = made(nets)
    loop.push_to_hub("me/head", token=hub.token)
    fbwrap.from_pretrained("me/head", *nets)
    hub.fail("(HEAD|GET) ", 99, 503)
    assert torch.equal(fbwrap.from_pretrained("me/head", *nets)(Z), loop(Z))


def published(hub, name, files):
    repo = hub.repos.setdefault(name, Repo())
    repo.refs["main"] = repo.commit(files)
    return repo.refs["main"]


def test_a_head_that_names_its_generator_needs_none(hub, tmp_path):
    from safetensors.torch import save

    commit = published(hub, "them/sr", {"x2.safetensors": save(sr_files()), "x2.pth": b"a pickle"})
    x = torch.rand(1, 3, 8, 8)
    torch.manual_seed(0)
    loop = stir(fbwrap.attach("spandrel:them/sr/x2.safetensors", None, [fbwrap.Link("body.2", "image")], example=x))
    assert loop.facts.base == f"spandrel:them/sr/x2.safetensors@{commit}"
    loop.push_to_hub("me/head", token=hub.token)
    card = hub.repos["me/head"].at("main")[1]["README.md"].decode()
    assert "base_model: them/sr" in card
    scope = {}
    exec(card.split("```python\n")[1].split("```")[0], scope)  # as it stands
    assert scope["y"].shape == (1, 3, 16, 16)
    published(hub, "them/sr", {"x2.safetensors": save({k: v + 1 for k, v in sr_files().items()})})
    again = fbwrap.load_pretrained("me/head")
    assert torch.equal(again(x), loop(x)), "the commit that it was trained on, not the newest"
    assert again.facts.base == loop.facts.base
    loop.save_pretrained(tmp_path / "head")
    assert torch.equal(fbwrap.load_pretrained(tmp_path / "head", local_files_only=True)(x), loop(x))
    with pytest.raises(SettingError, match="not safetensors"):
        fbwrap.attach("spandrel:them/sr/x2.pth", None, [fbwrap.Link("body.2", "image")], example=x)
    assert not hub.requests("GET /them/sr/resolve/[^ ]*pth")
    with pytest.raises(HubError, match="lacks a file"):
        fbwrap.attach("spandrel:them/sr/x9.safetensors", None, [fbwrap.Link("body.2", "image")], example=x)
    with pytest.raises(HeadError, match="should have at most 10"):
        fbwrap.load_pretrained(tmp_path / "head", cache_dir=tmp_path / "other", max_bytes=10)


def test_an_autoencoder_of_diffusers_by_name(hub, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    files = {f"vae/{path.name}": path.read_bytes() for path in (tmp_path / "vae").iterdir()}
    published(hub, "them/pipe", files)
    z = torch.randn(1, 4, 8, 8)
    link = [fbwrap.Link("decoder.mid_block", "image")]
    loop = stir(fbwrap.attach("diffusers:them/pipe/vae", None, link, example=z))
    loop.save_pretrained(tmp_path / "head")
    assert torch.equal(fbwrap.load_pretrained(tmp_path / "head")(z).sample, loop(z).sample)
    here = fbwrap.attach(f"diffusers:{tmp_path / 'vae'}", None, link, example=z)
    assert here.facts.base is None, "a folder here: nobody else can fetch it"
    config = json.loads(files["vae/config.json"])
    for change in ({"_class_name": "StableDiffusionPipeline"}, {"_class_name": ["x"]}, {"quantization_config": {}}):
        published(hub, "them/evil", {**files, "vae/config.json": json.dumps(config | change).encode()})
        with pytest.raises(fbwrap.FbwrapError, match="only AutoencoderKL"):
            fbwrap.attach("diffusers:them/evil/vae", None, link, example=z)


def test_a_folder_is_pushed_without_its_networks(hub, nets, tmp_path):
    loop = made(nets)
    loop.save_pretrained(tmp_path / "head")
    fbwrap.heads.hub.push_folder(tmp_path / "head", "me/head", token=hub.token, dtype="bf16")
    torch.testing.assert_close(fbwrap.from_pretrained("me/head", *nets)(Z), loop(Z), rtol=0.05, atol=0.02)
    fbwrap.heads.hub.push_folder(tmp_path / "head", "me/head", token=hub.token)
    assert torch.equal(fbwrap.from_pretrained("me/head", *nets)(Z), loop(Z))
    with pytest.raises(HeadError, match="There is no head at"):
        fbwrap.heads.hub.push_folder(tmp_path / "nothing", "me/other", token=hub.token)
    with pytest.raises(HeadError, match="dtype='int8'"):
        fbwrap.heads.hub.push_folder(tmp_path / "head", "me/other", token=hub.token, dtype="int8")
    assert "me/other" not in hub.repos


def test_the_g_that_learned_with_its_head_goes_with_it(hub, nets, tmp_path, caplog):
    loop = made(nets)
    loop.note(trained_on={"recipe": "FAL", "generator": "generator.safetensors"})
    loop.save_pretrained(tmp_path / "head")
    with caplog.at_level(logging.WARNING, "fbwrap"):
        loop.push_to_hub("me/alone", token=hub.token)
    assert "was trained together with this head" in caplog.text
    from fbwrap.recipes.training.weights import save_generator

    save_generator(nets[0], tmp_path / "head")
    fbwrap.heads.hub.push_folder(tmp_path / "head", "me/head", token=hub.token)
    repo = hub.repos["me/head"]
    files = repo.commits[repo.refs["main"]]
    assert files["generator.safetensors"] == (tmp_path / "head" / "generator.safetensors").read_bytes()
    assert "fbwrap.load_weights(G, file)" in files["README.md"].decode()
    loop.note(trained_on={})
    loop.save_pretrained(tmp_path / "head")
    fbwrap.heads.hub.push_folder(tmp_path / "head", "me/own", token=hub.token)
    repo = hub.repos["me/own"]
    assert "generator.safetensors" not in repo.commits[repo.refs["main"]], "somebody's own file stays"


def test_a_full_disk_is_not_the_hubs_fault(hub, nets, tmp_path, monkeypatch):
    made(nets).save_pretrained(tmp_path / "head")
    monkeypatch.setattr("fbwrap.heads.files.shutil.copyfile", lambda *a: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(HeadError, match="cannot be copied"):
        fbwrap.heads.hub.push_folder(tmp_path / "head", "me/head", token=hub.token)
