"""What all tests share: torch on one thread, a Hub on this machine, options, fixtures."""

import os
import socket
import sys
import types

import pytest
import torch
from commandline import NETS
from helpers import stir
from zoo import ZOO

import fbwrap

DEVICE = os.environ.get("FBWRAP_TEST_DEVICE", "cpu")  # of the zoo: with "cuda" the invariants are those of a GPU
if DEVICE != "cpu":
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
# pytest-xdist has a process for each core; those that the tests start inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
# where the tests' hub serves: a port for each of pytest-xdist's workers, and for the subprocesses of its tests
_HUB = "FBWRAP_TEST_HUB_" + os.environ.get("PYTEST_XDIST_WORKER", "alone")
if _HUB not in os.environ:
    with socket.socket() as _free:
        _free.bind(("127.0.0.1", 0))
        os.environ[_HUB] = f"http://127.0.0.1:{_free.getsockname()[1]}"
os.environ["HF_ENDPOINT"] = os.environ[_HUB]  # huggingface_hub reads it once, when it is imported


def _stand_in_for_torchvisions_operators():
    """Beside a CPU torch, the torchvision of PyPI (a CUDA build) fails to import for want of two operators'
    schemas: for the tests, they are declared."""
    try:
        import torchvision
    except ImportError:
        return None
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        return library
    return None


_LIBRARY = _stand_in_for_torchvisions_operators()  # the declarations live as long as it does
if "torchvision" in sys.modules:
    from torchvision.transforms import functional

    # basicsr imports a module that torchvision dropped
    moved = types.ModuleType("torchvision.transforms.functional_tensor")
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules.setdefault(moved.__name__, moved)

collect_ignore_glob = ["cookbook/*"]  # scripts that test_cookbook.py runs


def pytest_addoption(parser):
    parser.addoption("--support", action="store_true", help="write docs/support.md from what the tests find")
    parser.addoption("--networks", type=int, default=200, help="random networks to check (tests/test_random_nets.py)")
    parser.addoption("--seed", type=int, default=0, help="of the first of them")
    parser.addoption("--heads", type=int, default=300, help="mutated heads to load (tests/test_mutated_heads.py)")
    parser.addoption("--calls", type=int, default=60, help="calls in each thread (tests/test_threads.py)")


# with several processes the longest files first, so that none of them runs alone at the end
LONGEST = ("test_docs", "test_fit", "test_benchmarks", "test_app", "test_examples", "test_page", "test_adapters")


def pytest_collection_modifyitems(items):
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def pytest_terminal_summary(terminalreporter):
    from test_random_nets import ROLLOUTS

    passed = (dict(report.user_properties) for report in terminalreporter.stats.get("passed", ()))
    if rollouts := sum(properties.get(ROLLOUTS, 0) for properties in passed):
        terminalreporter.write_line(f"{rollouts} rollouts of random networks were equal to whole passes by hand")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Fixtures may ask how their test went: ``request.node.rep_call``."""
    report = (yield).get_result()
    setattr(item, f"rep_{report.when}", report)


@pytest.fixture(params=ZOO, ids=list(ZOO))
def case(request):
    return ZOO[request.param]


@pytest.fixture
def dcgan():
    return ZOO["dcgan"].build()


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "neighbour.py").write_text("WIDTH = 4\n")
    return f"{tmp_path / 'nets.py'}:"


@pytest.fixture
def head(nets, tmp_path):
    from fbwrap.app.models import load_model

    torch.manual_seed(0)
    G, D = load_model(nets + "G"), load_model(nets + "D")
    torch.save(G.state_dict(), tmp_path / "g.pth")
    torch.save(D.state_dict(), tmp_path / "d.pth")
    stir(fbwrap.attach(G, D)).save_pretrained(tmp_path / "head")
    return [tmp_path / "head", "-g", nets + "G", "-d", nets + "D", "--weights", tmp_path / "g.pth",
            "--critic-weights", tmp_path / "d.pth", "--latent", "8x1x1", "--samples", "12"]  # fmt: skip


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Chromium, for the tests of the page."""
    from test_page import CHROMIUM, DRIVER, FLAGS, REQUIRED

    if not REQUIRED:
        pytest.importorskip("selenium")
        pytest.importorskip("gradio")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    assert CHROMIUM, "FBWRAP_BROWSER=required, and there is no Chromium"
    assert DRIVER, "FBWRAP_BROWSER=required, and there is no chromedriver"
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub where HF_ENDPOINT points."""
    from hubserver import Hub
    from huggingface_hub import constants, utils

    for name in ("close_session", "reset_sessions"):  # connections to the hub of the test before
        getattr(utils, name, lambda: None)()
    served = Hub(int(os.environ["HF_ENDPOINT"].rsplit(":", 1)[1]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield served
    served.close()


@pytest.fixture
def sr():
    """G, D, G's inputs, and a loop with a stirred head: a small network for super-resolution."""
    from helpers import stir
    from zoo import ZOO

    G, D, args, loop = ZOO["glob"].build()
    return G, D, args, stir(loop)
