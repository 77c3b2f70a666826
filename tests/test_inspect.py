"""``fbwrap inspect``: what it says of networks, and of what is wrong with them."""

import json

import pytest
import torch
from commandline import command, inspect


def test_inspect_tells_layers_links_and_cost(nets, tmp_path):

    from fbwrap.app.models import load_model

    G = load_model(nets + "G(8, width=6)")
    torch.save({"netG": {f"module.{k}": v for k, v in G.state_dict().items()}}, tmp_path / "g.pth")
    done = inspect(nets + "G(8, width=6)", "-d", nets + "D()", "--weights", tmp_path / "g.pth", "--why")
    assert done.exit_code == 0, done.output
    for piece in (
        "generator: dcgan: transposed convolutions",
        "pix2pix: UnetGenerator",  # why not
        "no layer model.model.0",
        "main.1  ReLU             (1, 6, 4, 4)",
        "main.1 (6 @ 4x4) <- dual <- net.1 (6 @ 4x4)",
        "T    naive        planned",
    ):
        assert piece in done.output
    done = inspect(nets + "G", "-d", nets + "D", "-l", "main.0=net.0", "--module", "light", "--no-layers")
    assert "main.0 (4 @ 4x4) <- light <- net.0 (6 @ 4x4)" in done.output
    assert "ConvTranspose2d" not in done.output
    done = inspect(nets + "G", "-d", nets + "D", "--module", "auto", "--budget", "4", "--no-layers")
    assert "main.1 (4 @ 4x4) <- fpn <- net.1 (6 @ 4x4)" in done.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nets"], "names no model"),
        (["@Nothing()"], "has no 'Nothing'. Its classes: G, D"),
        (["@not_a_class"], "not a torch.nn.Module"),
        (["@G(wrong=1)"], "cannot be made: TypeError"),
        (["@G(z=len('x'))"], "cannot be read"),
        (["nowhere.py:G"], "There is no file nowhere.py"),
        (["no_such_package:G"], "cannot be imported: ModuleNotFoundError"),
        (["@G", "--weights", "nowhere.pth"], "There is no weights file"),
        (["@G", "--example", "2xa"], "write shapes such as"),
        (["@G", "-l", "nonsense", "-d", "@D"], "There is no layer named 'nonsense'"),
        (["@D", "--example", "1x4x8x8"], "refuses the example"),
    ],
)
def test_inspect_says_what_is_wrong_in_one_sentence(nets, arguments, sentence):
    done = inspect(*(item.replace("@", nets) for item in arguments))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert sentence in done.output
    assert "Traceback" not in done.output


def test_inspect_without_a_model_is_wrong_usage():
    assert inspect().exit_code == 2


def test_inspect_as_json(nets):
    done = command("inspect", nets + "G", "-d", nets + "D", "--json")
    told = json.loads(done.stdout)
    assert told["links"][0]["module"] == "dual"
    assert set(told["links"][0]["sources"]) <= {row["name"] for row in told["layers"]["discriminator"]}
    assert {row["name"] for row in told["layers"]["generator"]} >= {told["links"][0]["target"]}
    assert told["parameters"] > 0
