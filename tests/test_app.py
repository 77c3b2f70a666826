"""The command line: the quickstart from start to end in small, interrupted and resumed, and wrong use."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from commandline import command, run
from safetensors.torch import load_file

import fbwrap
from fbwrap.app.digits import Discriminator, Generator, latents


def test_help_and_version_and_wrong_use():
    out, _ = run("--help").communicate()
    assert "quickstart" in out
    assert run("version").communicate()[0].strip() == fbwrap.__version__
    process = run("quickstart", "--steps", "none")
    process.communicate()
    assert process.returncode == 2


def test_short_help_version_and_python_m():
    for words in (["-h"], ["sample", "-h"]):
        out, error = run(*words).communicate()
        assert "Usage:" in out, error
    assert run("--version").communicate()[0].strip() == fbwrap.__version__
    done = subprocess.run(
        [sys.executable, "-m", "fbwrap", "--version"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stdout.strip() == fbwrap.__version__, done.stderr


def test_an_error_as_json_says_it_once_and_hints_are_options(tmp_path):
    done = command("sample", tmp_path / "nowhere", "--json")
    told = json.loads(done.output.strip().splitlines()[-1])
    assert not told["error"].startswith("Error")
    from fbwrap.app.command import as_options

    assert as_options("Pass value_range=, or latents=.", {"latents"}) == "Pass value_range=, or --latents."


def test_a_folder_that_cannot_be_written_ends_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    process = run("quickstart", "--out", str(tmp_path / "file"), "--steps", "2")
    _, error = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in error
    assert str(tmp_path / "file") in error


@pytest.mark.slow
def test_quickstart_interrupted_and_resumed(tmp_path):
    """SIGINT in the midst of training, then the same command: report, head and pictures are there."""
    out = tmp_path / "out"
    often = "import fbwrap.app.quickstart as q; q.OPTIONS['save_every'], q.MEASURED = 20, 300"
    first = run("quickstart", "--out", str(out), "--steps", "700", first=often)
    deadline = time.monotonic() + 400  # of a busy machine
    while not list((out / "gan").glob("checkpoint-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate()
    assert first.returncode == 130, error
    assert "continue if you run them again" in error
    step = torch.load(max((out / "gan").glob("checkpoint-*.pt")), weights_only=True)["step"]
    assert step >= 20
    shrunk = run("quickstart", "--out", str(out), "--steps", str(step + 4), first=often)
    table, error = shrunk.communicate()
    assert shrunk.returncode == 0, error
    assert "G trained on" in table
    assert table.count("head ") >= 9
    rows = json.loads((out / "report.json").read_text())
    assert [row["model"] for row in rows[:2]] == ["base", "G trained on"]
    assert (out / "report.png").stat().st_size > 10_000
    assert any(name.startswith("samples_") for name in os.listdir(out / "head_run"))
    G, D = Generator().eval(), Discriminator().eval()
    G.load_state_dict(load_file(out / "generator.safetensors"))
    D.load_state_dict(load_file(out / "discriminator.safetensors"))
    loop = fbwrap.from_pretrained(out / "head", G, D)
    assert loop(latents(2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "words", [["version"], ["inspect", "torch.nn:Linear(2, 3)"], ["pull", "nothing"], ["train", "nonsense"]]
)
def test_json_is_one_line_of_it(words):
    done = command(*words, "--json")
    lines = done.stdout.strip().splitlines()
    told = json.loads(lines[-1])
    assert done.exit_code == (2 if "nonsense" in words else 1 if words[0] in ("pull", "inspect") else 0)
    assert ("error" in told) is (done.exit_code > 0)
    assert "Error:" not in told.get("error", "")
    assert len(lines) == 1


def test_debug_shows_where(tmp_path):
    process = run("sample", str(tmp_path), "-g", "torch.nn:Linear(2, 3)", "--debug")
    _, error = process.communicate()
    assert "Traceback" in error
    process = run("sample", str(tmp_path), "-g", "torch.nn:Linear(2, 3)")
    _, error = process.communicate()
    assert process.returncode == 1
    assert error.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in error


COMMANDS = (
    *(
        "version",
        "quickstart",
        "inspect",
        "fit",
        "train",
        "study",
        "eval",
        "ablate",
        "sample",
        "export",
        "push",
        "pull",
    ),
    *("search", "ui"),
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_holds_no_emoji(name):
    """rich reads ``:-1:`` in a help text as the name of a picture."""
    assert not re.search("[\U0001f000-\U0001ffff]", command(name, "--help").output)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_an_example_with_options_that_exist(name):
    import re

    from typer.main import get_command

    from fbwrap.app.cli import app

    group = get_command(app)
    assert set(group.commands) == set(COMMANDS)
    one = group.commands[name]
    example = re.search(r"Example: (fbwrap .*)", one.help)[1]
    assert example.split()[1] == name
    known = {flag for parameter in one.params for flag in [*parameter.opts, *parameter.secondary_opts]}
    assert {word for word in example.split() if word.startswith("-")} <= known
    assert {"--json", "--debug"} <= known


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    words = {"bash": {"COMP_WORDS": "fbwrap train celeb", "COMP_CWORD": "2"}}
    env = {**os.environ, "_FBWRAP_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "fbwrap train celeb",
           "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words.get(shell, {})}  # fmt: skip
    code = "import sys; sys.argv = ['fbwrap']; from fbwrap.app.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "celeba_dcgan" in done.stdout, done.stderr
    assert "cityscapes" not in done.stdout


READ_ONLY = "/proc/fbwrap"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "nowhere.py:G"], "There is no file nowhere.py"),
        (["inspect", "torch.nn:Linear(2, 3)", "--weights", "nowhere.pth"], "nowhere.pth"),
        (["inspect", "torch.nn:Linear(2, 3)", "--example", "1x5"], "1x5|refuses|mat1"),
        (["inspect", "torch.nn:Linear(2, 3)", "--example", "1x2", "-l", "nolayer"], "nolayer"),
        (["train", "swiss_roll", "--set", "stepz=3"], "stepz"),
        (["train", "celeba_dcgan", "--data", "nowhere", "--smoke"], "nowhere"),
        (["train", "swiss_roll", "--smoke", "--out", READ_ONLY], READ_ONLY),
        (["quickstart", "--steps", "2", "--out", READ_ONLY], READ_ONLY),
        (["ablate", "nonsense"], "no experiment"),
        (["eval", "nowhere", "-g", "torch.nn:Linear(2, 3)"], "There is no head at nowhere"),
        (["study", "steps", "nowhere"], "There is no head at nowhere"),
        (["sample", "HEAD", "--out", "x"], "does not say where to download its generator"),
        (["sample", "HEAD", "-g", "torch.nn:Linear(2, 3)"], "This head is for another generator"),
        (["sample", "HEAD", *["NETWORKS"], "--out", READ_ONLY], READ_ONLY),
        (["push", "nowhere", "me/head"], "There is no head at nowhere"),
        (["push", "HEAD", "name"], "write user/name"),
        (["push", "HEAD", "me/head", "--picture", "none.png"], "There is no picture"),
        (["push", "HEAD", "me/head"], "not in the cache|could not be asked|Hub"),
        (["pull", "me/head"], "not in the cache|could not be asked|Hub"),
        (["ui", "nowhere", "-g", "torch.nn:Linear(2, 3)"], "There is no head at nowhere"),
    ],
)
def test_wrong_use_ends_in_one_sentence_and_nothing_is_half_written(words, sentence, tmp_path, monkeypatch):
    import re

    from digits import FOLDER, NETWORKS

    monkeypatch.chdir(tmp_path)
    given = [word for each in words for word in (NETWORKS if each == "NETWORKS" else [each])]
    done = command(*[FOLDER / "head" if word == "HEAD" else word for word in given])
    assert done.exit_code == (2 if "nonsense" in words else 1), done.output
    assert re.search(sentence, done.output), done.output
    assert "Traceback" not in done.output
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_models_are_named_by_paths_with_spaces_letters_and_drives(tmp_path):
    from fbwrap.app.models import _SPEC, load_model

    folder = tmp_path / "schöne Netze"
    folder.mkdir()
    (folder / "nets v1.py").write_text("from torch import nn\nG = nn.Linear(2, 3)\n")
    assert load_model(f"{folder / 'nets v1.py'}:G").out_features == 3
    for spec, where, call in (
        (r"C:\nets\gan.py:G(1)", r"C:\nets\gan.py", "G(1)"),
        ("C:/nets/gan.py:G", "C:/nets/gan.py", "G"),
        ("nets.gan:G(name='a:b')", "nets.gan", "G(name='a:b')"),
    ):
        found = _SPEC.fullmatch(spec)
        assert (found["where"], found["call"]) == (where, call)
    with pytest.raises(fbwrap.FbwrapError, match="names no model"):
        load_model("nets.gan")


def test_devices_weights_and_files_are_not_dropped_silently():
    from digits import FOLDER

    for words, sentence in (
        (["--weights", "x.pth"], "--weights needs --generator"),
        (["-g", "torch.nn:Linear(1, 1)", "--critic-weights", "x.pth"], "--critic-weights needs --discriminator"),
    ):
        done = command("sample", FOLDER / "head", *words)
        assert done.exit_code == 1
        assert sentence in done.output
    done = command("sample", FOLDER / "head" / "config.json", "-g", "torch.nn:Linear(1, 1)")
    assert "is a file" in done.output


def test_json_is_json_where_networks_print_and_numbers_are_none(tmp_path):
    from fbwrap.app.command import _finite

    assert _finite({"a": [float("nan"), 1.5], "b": float("inf")}) == {"a": [None, 1.5], "b": None}
    (tmp_path / "loud.py").write_text(
        "from torch import nn\nprint('loading')\nG = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))\n"
    )
    from fbwrap.app.models import load_model

    G = load_model(f"{tmp_path / 'loud.py'}:G")
    torch.save(G.state_dict(), tmp_path / "g.pth")
    fbwrap.attach(G, None, [fbwrap.Link("1", "image")], example=torch.randn(2, 4)).save_pretrained(tmp_path / "head")
    words = ["eval", tmp_path / "head", "-g", f"{tmp_path / 'loud.py'}:G", "--weights", tmp_path / "g.pth"]
    done = run(*map(str, [*words, "--samples", "4", "--json"]))
    out, error = done.communicate()
    assert done.returncode == 0, error
    assert len(json.loads(out)["rows"]) == 2
    assert "loading" in error


def test_scripts_that_leave_and_neighbours_of_one_name(tmp_path):
    from fbwrap.app.models import load_model

    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(2)\n")
    with pytest.raises(fbwrap.FbwrapError, match="cannot be imported: SystemExit"):
        load_model(f"{tmp_path / 'leaves.py'}:G")
    for folder, size in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_layers.py").write_text(f"SIZE = {size}\n")
        (tmp_path / folder / "net.py").write_text(
            "import my_layers\nfrom torch import nn\nG = nn.Linear(1, my_layers.SIZE)\n"
        )
        assert load_model(f"{tmp_path / folder / 'net.py'}:G").out_features == size


@pytest.mark.parametrize("settings", ["steps=-3", "steps=abc", "width=0", "steps=1.5"])
def test_settings_that_cannot_be(settings, tmp_path):
    done = command("train", "swiss_roll", "--smoke", "--out", tmp_path / "run", "--set", settings)
    assert done.exit_code == 1
    assert "pass a whole number, 1 or more" in done.output


def test_without_typer_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['typer'] = None; from fbwrap.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install '.[app]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "spec",
    ["shutil:rmtree('kept')", "nets.py:rmtree('kept')", "nets.py:shutil.rmtree('kept')", "os:rmdir('kept')",
     "subprocess:run('rmdir kept')", "builtins:exec('1')", "torch.hub:load('a/b', 'c')", "torch:load('nets.py')",
     "pathlib:Path.rmdir('kept')", "nets.py:Holder()", "nets.py:removing('kept')",
     "huggingface_hub:snapshot_download('a/b')"],
)  # fmt: skip
def test_what_makes_no_network_is_not_called(spec, tmp_path, monkeypatch):
    from fbwrap.app.models import load_model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "nets.py").write_text(
        "import functools, shutil\nfrom shutil import rmtree\nfrom torch import nn\n"
        "class Net(nn.Module):\n    @classmethod\n    def from_pretrained(cls): return cls()\n"
        "class Holder:\n    def __init__(self): shutil.rmtree('kept')\n"
        "def make(n=1): return nn.Linear(1, n)\npart = functools.partial(nn.Linear, 1)\ninstance = nn.Linear(1, 1)\n"
        "removing = functools.partial(rmtree)\n"
    )
    with pytest.raises(
        fbwrap.errors.SettingError,
        match=r"is refused for safety: .* neither an nn.Module class nor a function in your own",
    ):
        load_model(spec)
    assert (tmp_path / "kept").is_dir()
    for fine in ("Net()", "Net.from_pretrained()", "make(2)", "part(3)", "instance"):
        assert isinstance(load_model(f"nets.py:{fine}"), torch.nn.Module)
