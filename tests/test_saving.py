"""Saving a head: killed, on a full disk, beside a reader. What remains is the old head or the new one."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from helpers import stir
from safetensors.torch import load_file, save_file
from zoo import ZOO

import fbwrap
from fbwrap.errors import HeadError
from fbwrap.heads.files import read

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def saved(folder, **options):
    G, D, args, loop = ZOO["dcgan"].build()
    stir(loop)
    loop.save_pretrained(folder, **options)
    return G, D, args, loop


@posix
def test_a_killed_save_leaves_a_whole_head(tmp_path):
    folder, rng, seen = tmp_path / "head", random.Random(0), set()
    G, D, (z,), loop = saved(folder, discriminator="all")
    started = time.monotonic()
    loop.save_pretrained(folder, discriminator="all")
    longest = max(0.05, 3 * (time.monotonic() - started))  # on a busy machine a save takes longer
    for kill in range(30):
        child = os.fork()
        if not child:
            with torch.no_grad():
                for _ in range(1000):
                    for parameter in loop.parameters():
                        parameter += 0.01
                    loop.save_pretrained(folder, discriminator="all")
            os._exit(0)
        time.sleep(rng.uniform(0.002, longest * (1 + kill / 5)))  # later ones come later: some saves come through
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _, tensors = read(folder)
        seen.add(float(sum(t.double().sum() for t in tensors["feedback.safetensors"].values())))
    assert len(seen) > 1, "some saves came through"
    fbwrap.from_pretrained(folder, G, D)(z)
    loop.save_pretrained(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "feedback.safetensors"], "the next save removes what kills left"


def test_files_that_were_ready_are_the_head(tmp_path):
    """A process that was killed while it put files in their places."""
    G, D, (z,), loop = saved(tmp_path / "old", discriminator="all")
    old = loop(z)
    new = saved(tmp_path / "new", discriminator="all")
    stir(loop, seed=5)
    loop.save_pretrained(tmp_path / "new", discriminator="all")
    wanted = loop(z)
    assert not torch.equal(old, wanted)
    del new
    names = ("feedback.safetensors", "discriminator.safetensors", "config.json")
    for done in range(4):
        folder = tmp_path / f"killed {done}"
        saved(folder, discriminator="all")
        ready = folder / ".fbwrap-ready"
        ready.mkdir()
        for name in names:
            (ready / name).write_bytes((tmp_path / "new" / name).read_bytes())
        for name in names[:done]:
            os.replace(ready / name, folder / name)
        assert torch.equal(fbwrap.from_pretrained(folder, G, D)(z), wanted)
        loop.save_pretrained(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "feedback.safetensors"]


FULL = """
import resource, signal, sys, torch, fbwrap
from torch import nn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
G, D = nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 2)), nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 1))
loop = fbwrap.attach(G, D, [("0", "0")], example=torch.zeros(4, 2))
loop.save_pretrained(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for folder in (sys.argv[1], sys.argv[1] + "/new"):
    try:
        loop.save_pretrained(folder)
    except fbwrap.errors.HeadError as error:
        print(error)
fbwrap.from_pretrained(sys.argv[1], G, D)
print("whole")
"""


@posix
def test_a_full_disk_is_one_sentence_and_the_old_head_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "head")], capture_output=True, text=True, check=True
    )
    *errors, last = done.stdout.splitlines()
    assert len(errors) == 2
    assert all("could not be written" in error and "nothing that was there is damaged" in error for error in errors)
    assert all(len(error) < 400 for error in errors)
    assert last == "whole"
    assert not list((tmp_path / "head").glob(".fbwrap*"))


def test_reading_while_it_is_written(tmp_path):
    G, D, (z,), loop = saved(tmp_path)
    done, wrong = threading.Event(), []

    def reading():
        while not done.is_set():
            try:
                read(tmp_path)
            except HeadError as error:
                wrong.append(str(error))

    readers = [threading.Thread(target=reading) for _ in range(2)]
    [reader.start() for reader in readers]
    for seed in range(40):
        stir(loop, seed=seed)
        loop.save_pretrained(tmp_path, discriminator="all" if seed % 2 else "none")
    done.set()
    [reader.join() for reader in readers]
    assert not wrong


def test_nan_is_neither_written_nor_read(tmp_path):
    G, D, _, loop = saved(tmp_path / "head")
    weights = load_file(tmp_path / "head" / "feedback.safetensors")
    name = next(key for key, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, tmp_path / "head" / "feedback.safetensors")
    path = tmp_path / "head" / "config.json"
    config = json.loads(path.read_text())
    from fbwrap.heads.files import sha256

    file = tmp_path / "head" / "feedback.safetensors"
    config["files"]["feedback.safetensors"] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    path.write_text(json.dumps(config))
    with pytest.raises(HeadError, match="holds NaN or infinity"):
        fbwrap.from_pretrained(tmp_path / "head", G, D)
    with torch.no_grad():
        next(loop.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(HeadError, match="training has diverged"):
        loop.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_modules_of_other_shapes_are_refused_before_they_are_made(tmp_path, monkeypatch):
    G, D, _, _ = saved(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["links"] = [{**config["links"][0], "sources": ["4"] * 60}] * 60
    path.write_text(json.dumps(config))
    monkeypatch.setattr("fbwrap.attaching.planning._build", lambda *a: pytest.fail("nothing is made"))
    with pytest.raises(HeadError, match="do not fit the links' modules"):
        fbwrap.from_pretrained(tmp_path, G, D)


def test_an_attribute_of_d_that_no_adapter_knows_is_not_set(tmp_path):
    G, D, _, loop = saved(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for name in ("training", "_version", "dump_patches", "call_super_init"):
        path.write_text(json.dumps({**config, "critic_size": name}))
        before = sorted(vars(D))
        with pytest.raises(HeadError, match="fbwrap does not know this D"):
            fbwrap.from_pretrained(tmp_path, G, D)
        assert sorted(vars(D)) == before


def test_a_head_still_fits_a_network_that_moves_by_itself(tmp_path):
    from randomnets import MovesParameter

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 6, 1), MovesParameter(random.Random(0))
            self.c = torch.nn.Conv2d(6, 3, 1)

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    torch.manual_seed(0)
    G, D, x = Net().eval(), Net().eval(), torch.randn(2, 3, 8, 8)
    loop = stir(fbwrap.attach(G, D, [("a", "b")], example=x))
    loop.save_pretrained(tmp_path)
    loop.detach()
    G(x)
    D(x)
    fbwrap.from_pretrained(tmp_path, G, D)
    with torch.no_grad():
        G.c.weight += 1
    with pytest.raises(HeadError, match="other weights"):
        fbwrap.from_pretrained(tmp_path, G, D)


def test_quantised_networks(tmp_path):
    def quantised(seed):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
        return torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8)

    torch.manual_seed(5)
    D, z = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval(), torch.rand(2, 2)
    fbwrap.attach(quantised(0), D, [("1", "1")], example=z).save_pretrained(tmp_path)
    fbwrap.from_pretrained(tmp_path, quantised(0), D)
    with pytest.raises(HeadError, match="other weights"):
        fbwrap.from_pretrained(tmp_path, quantised(1), D)
    loop = fbwrap.attach(D[:2], quantised(0), [("0", "1")], example=z, critic_input=lambda y, z: y[:, :2])
    with pytest.raises(HeadError, match="quantised weights"):
        loop.save_pretrained(tmp_path / "all", discriminator="all")
