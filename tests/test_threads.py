"""Threads and processes: every call gives what it gives alone, whatever runs beside it; nothing is left behind.

``pytest tests/test_threads.py --calls 1000`` calls as often as one likes.
"""

import contextlib
import copy
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from helpers import same, state, stir
from torch import nn
from zoo import Residual, patch

import fbwrap
from fbwrap.engine import locks
from fbwrap.engine.training_mode import training_mode

THREADS = 8
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def calls(request):
    return request.config.getoption("--calls")


@pytest.fixture
def pair():
    torch.manual_seed(0)
    G, D = Residual().eval(), patch(norm=nn.BatchNorm2d).train()  # D as constructed: in train mode
    x = torch.randn(2, 3, 8, 8)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads change places often
    with torch.no_grad():
        yield G, D, x, stir(fbwrap.attach(G, D, [("body.1", "1"), ("body.2", "3")], example=x))
    sys.setswitchinterval(interval)


def together(calls, *work):
    """Run each piece of work in its own threads, ``calls`` times; what went wrong."""
    wrong, start = [], threading.Barrier(THREADS)

    def run(number):
        piece = work[number % len(work)]
        start.wait()
        with torch.no_grad():
            for call in range(calls):
                try:
                    if not piece(number, call):
                        wrong.append((number, call))
                except Exception as error:
                    wrong.append((number, call, repr(error)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return wrong


def test_one_loop(pair, calls):
    G, D, x, loop = pair
    before = state(G, D)
    inputs = [torch.randn(2, 3, 8, 8) for _ in range(5)]
    wanted = [loop(each) for each in inputs]
    assert not together(calls, lambda n, c: torch.equal(loop(inputs[(n + c) % 5]), wanted[(n + c) % 5]))
    assert same(before, state(G, D))


def test_settings_are_each_threads_own(pair, calls):
    _, _, x, loop = pair
    values = [0.1 * number for number in range(1, THREADS + 1)]
    wanted = {}
    for value in values:
        with loop.settings(strength={0: value, 1: 1 - value}, steps=1 + int(value * 10) % 3):
            wanted[value] = loop(x)

    def work(number, call):
        value = values[(number + call) % THREADS]
        with loop.settings(strength={0: value, 1: 1 - value}, steps=1 + int(value * 10) % 3):
            first = torch.equal(loop(x), wanted[value])
            with loop.settings(steps=0):
                inner = torch.equal(loop(x), loop.generator(x))
            return first and inner and loop[0].strength == value and torch.equal(loop(x), wanted[value])

    assert not together(calls // 2, work)
    assert (loop.strength, loop.steps, loop[0].strength, loop[1].strength) == (1.0, 1, 1.0, 1.0)


def test_a_loop_beside_bare_g_and_bare_d(pair, calls):
    G, D, x, loop = pair
    D[3].momentum = 0.0  # bare calls do not move what the loop reads
    y = loop(x)
    plain, judged = G(x), copy.deepcopy(D)(x)  # by the batch's own statistics

    def bare_d(number, call):
        return torch.equal(D(x), judged)

    wrong = together(calls, lambda n, c: torch.equal(loop(x), y), lambda n, c: torch.equal(G(x), plain), bare_d, bare_d)
    assert not wrong
    assert all(module.training for module in D.modules())
    assert type(D[3]) is nn.BatchNorm2d


def one_of(y, possible):
    return any(torch.equal(y, one) for one in possible)


def test_install_and_uninstall_beside_calls(pair, calls):
    G, D, x, loop = pair
    other = stir(fbwrap.attach(G, D, [("body.0", "1")], example=x), seed=4)
    plain, y, z = G(x), loop(x), other(x)
    with loop.installed(), other.installed():
        both = G(x)
    with other.installed(), loop.installed():
        turned = G(x)
    possible = (plain, y, z, both, turned)

    def installing(each):
        def work(number, call):
            with each.installed():
                return one_of(G(x), possible[1:])

        return work

    wrong = together(
        calls // 2,
        installing(loop),
        installing(other),
        lambda n, c: one_of(G(x), possible),
        lambda n, c: torch.equal(loop(x), y),
    )
    assert not wrong
    assert torch.equal(G(x), plain)
    assert "forward" not in vars(G)


def test_modes_are_seen_by_the_thread_that_set_them():
    from fbwrap.engine.training_mode import training_mode

    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout(0.5))
    inside, seen = threading.Event(), []

    def look():
        inside.wait()
        seen.append([module.training for module in net.modules()])
        twin = copy.deepcopy(net)
        seen.append([type(module) for module in twin.modules()])
        net[2].eval()  # somebody's own change counts
        seen.append([net[2].training, twin[2].training])
        net[2].train()
        done.set()

    done, thread = threading.Event(), threading.Thread(target=look)
    thread.start()
    with training_mode(list(net.modules()), False):
        assert not any(module.training for module in net.modules())
        assert all(
            isinstance(module, kind) for module, kind in zip(net, (nn.Conv2d, nn.BatchNorm2d, nn.Dropout), strict=True)
        )
        assert repr(net) == repr(copy.deepcopy(net))
        inside.set()
        done.wait()
        with training_mode([net[1]], True):
            assert net[1].training
        assert not net[1].training
    thread.join()
    assert seen == [[True] * 4, [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Dropout], [False, True]]
    assert [type(module) for module in net.modules()] == [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Dropout]
    assert all(module.training for module in net.modules())
    assert not any(name.startswith("_fbwrap") for module in net.modules() for name in vars(module))


@pytest.mark.parametrize("order", ["first out first", "last out first"])
def test_the_stance_of_the_process_is_what_it_was(order):
    import torch._dynamo.eval_frame as frames

    from fbwrap.engine.context import eager

    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    a.compile(backend="eager")
    b.compile(backend="eager")
    before = frames._stance.stance
    entered, other, left = threading.Event(), threading.Event(), threading.Event()
    inside = []

    def one():
        with eager([a]):
            entered.set()
            (other if order == "first out first" else left).wait()
        if order == "first out first":
            left.set()

    def two():
        entered.wait()
        with eager([b]):
            other.set()
            if order == "first out first":
                left.wait()
            inside.append(frames._stance.stance)
        left.set()

    threads = [threading.Thread(target=each) for each in (one, two)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert inside == ["force_eager"]
    assert frames._stance.stance == before


@posix
def test_a_process_forked_in_the_midst_of_rollouts_runs_the_loop(pair, calls):
    G, D, x, loop = pair
    y, plain = loop(x), G(x)
    stop, wrong = threading.Event(), []

    def rolling():
        with torch.no_grad():
            while not stop.is_set():
                if not torch.equal(loop(x), y):
                    wrong.append("a rollout beside a fork")

    threads = [threading.Thread(target=rolling) for _ in range(3)]
    [thread.start() for thread in threads]
    rng = random.Random(0)
    try:
        for _ in range(max(10, calls // 10)):
            time.sleep(rng.uniform(0, 0.005))
            child = os.fork()
            if not child:
                signal.alarm(20)
                fine = torch.equal(loop(x), y) and torch.equal(G(x), plain)
                fine &= D.training and "forward" not in vars(G.body[1]) and type(D[3]) is nn.BatchNorm2d
                os._exit(0 if fine else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert not wrong


@posix
def test_a_fork_within_a_rollout(pair):
    """From a hook, as a DataLoader's workers may start: the child goes on as the parent does."""
    G, D, x, loop = pair
    y, results = loop(x), []

    def fork(module, given, output):
        handle.remove()
        child = os.fork()
        results.append(child)

    handle = D[0].register_forward_hook(fork)
    got = loop(x)
    if not results[0]:
        signal.alarm(20)
        os._exit(0 if torch.equal(got, y) and torch.equal(loop(x), y) else 1)
    assert os.waitpid(results[0], 0)[1] == 0
    assert torch.equal(got, y)


def test_a_module_is_pickled_and_copied_plain_while_its_mode_is_another():
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout())
    with training_mode(list(net.modules()), False):
        assert type(net[0]) is not nn.BatchNorm2d
        assert isinstance(net[0], nn.BatchNorm2d)
        for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
            assert [type(each) for each in other] == [nn.BatchNorm2d, nn.Dropout]
            assert other.training, "as it is for everybody else"
    assert type(net[0]) is nn.BatchNorm2d


@contextlib.contextmanager
def rolling(loop, x):
    """Within the block another thread runs the loop."""
    stop = threading.Event()

    def run():
        with torch.no_grad():
            while not stop.is_set():
                loop(x)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_loop_is_pickled_while_another_thread_rolls(pair):
    _, _, x, loop = pair
    with rolling(loop, x):
        for _ in range(100):  # one in fifteen failed once
            pickle.dumps(loop)


CHILD = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import conftest, torch
with open(sys.argv[2], "rb") as file:
    loop, x, y = pickle.load(file)
with torch.no_grad():
    sys.exit(0 if torch.equal(loop(x), y) else 1)
"""


def test_a_spawned_process_gets_the_loop(pair, tmp_path):
    _, _, x, loop = pair
    y = loop(x)
    with rolling(loop, x):
        (tmp_path / "loop").write_bytes(pickle.dumps((loop, x, y)))  # in the midst of rollouts
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path / "loop")]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_block_that_the_collector_ends_waits_for_no_lock_of_its_own_thread(pair, monkeypatch):
    """Python may collect an abandoned ``installed()`` anywhere, also while this thread holds a lock of the library."""
    _, _, _, loop = pair
    abandoned = [loop.installed()]
    abandoned[0].__enter__()

    class Locks(weakref.WeakKeyDictionary):
        def setdefault(self, key, default):
            abandoned.clear()
            return super().setdefault(key, default)

    def held():
        with locks.locked(nn.Identity()):
            pass

    monkeypatch.setattr(locks, "_locks", Locks(locks._locks))
    calling = threading.Thread(target=held, daemon=True)
    calling.start()
    calling.join(20)
    assert not calling.is_alive()
    assert not abandoned


def test_two_generators_that_share_d_in_two_threads():
    torch.manual_seed(0)
    G1, D, G2, x = Residual(), patch(), Residual(), torch.randn(2, 3, 8, 8)
    D = nn.Sequential(*D, nn.BatchNorm2d(1)).train()
    loops = [stir(fbwrap.attach(G, D, [("body.1", "1")], example=x)) for G in (G1, G2)]
    before = state(D)
    wanted = [loop(x) for loop in loops]
    wrong = []

    def work(k):
        wrong.extend(k for _ in range(20) if not torch.equal(loops[k](x), wanted[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    assert [s[0] for s in before] == [s[0] for s in state(D)]
    assert torch.equal(D[-1].running_mean, torch.zeros(1))


def test_two_threads_share_a_loop(sr):
    G, _, _, loop = sr
    inputs = [torch.randn(2, 3, 8, 8) for _ in range(12)]
    with torch.no_grad():
        wanted, plain = [loop(x) for x in inputs], [G(x) for x in inputs]
    wrong = []

    def work(mine):
        with torch.no_grad():
            for _ in range(5):
                same = [torch.equal(loop(inputs[i]), wanted[i]) and torch.equal(G(inputs[i]), plain[i]) for i in mine]
                wrong.extend(i for i, ok in zip(mine, same, strict=True) if not ok)

    threads = [threading.Thread(target=work, args=(range(k, 12, 2),)) for k in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_two_threads_may_look_at_a_d_of_one_size():
    pytest.importorskip("basicsr")
    from families import basicsr

    D, G = basicsr("vgg").eval(), basicsr("rrdb").eval()
    loop = fbwrap.attach(G, D)
    failed = []

    def run(work):
        try:
            for _ in range(4):
                work()
        except Exception as error:
            failed.append(error)

    works = [lambda: loop(torch.rand(1, 3, 12, 12)), lambda: fbwrap.attach(basicsr("rrdb"), D)]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed
    assert D.input_size == 128
