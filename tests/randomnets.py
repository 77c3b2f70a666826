"""Random small networks with every trait that once broke replay, and the loop on them written out by hand.

``check(seed)`` makes a pair from a seed, attaches random links with a random example, and compares several rollouts,
on other sizes and batches and in both modes, bit for bit with whole passes under torch's own hooks, each pass and each
look on a fresh deep copy. ``pytest tests/test_random_nets.py --networks 2000 --seed 0`` runs as many as one likes.
"""

import copy
import random

import torch
from torch import Tensor, nn

import fbwrap
from fbwrap.feedback.features import from_map, resize, to_map

C = 6


def conv(inside=C, outside=C, kernel=3):
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2)


# -- conditions on which a layer does something else -----------------------------------------------------
CONDITIONS = {
    "large": lambda module, x: x.shape[-1] > 8,
    "odd batch": lambda module, x: x.shape[0] % 2 == 1,
    "bright": lambda module, x: bool(x.mean() > 0),
    "peak": lambda module, x: bool(x.flatten()[0] > 0.1),
    "training": lambda module, x: module.training,
    "eval": lambda module, x: not module.training,
    "always": lambda module, x: True,
}


class Layer(nn.Module):
    """(N, C, H, W) → (N, C, H, W)."""

    def __init__(self, rng):
        super().__init__()
        self.when = CONDITIONS[rng.choice(list(CONDITIONS))]
        self.setup(rng)

    def setup(self, rng):
        self.conv = conv()


class Plain(Layer):
    def forward(self, x):
        return self.conv(x)


class Norm(Layer):
    def setup(self, rng):
        self.norm = rng.choice(
            [
                nn.BatchNorm2d,
                nn.InstanceNorm2d,
                lambda c: nn.BatchNorm2d(c, track_running_stats=False),
                lambda c: nn.InstanceNorm2d(c, track_running_stats=True),
                lambda c: nn.GroupNorm(2, c),
            ]
        )(C)

    def forward(self, x):
        return self.norm(x)


class Activation(Layer):
    """Alone, so that it may be one layer for several places."""

    def setup(self, rng):
        self.act = rng.choice([nn.ReLU(True), nn.LeakyReLU(0.2, True), nn.ReLU(), nn.Identity(), nn.Dropout(0.3, True)])

    def forward(self, x):
        return self.act(x)


class Chain(nn.Sequential):
    def __init__(self, rng):
        layers = [
            conv(),
            nn.BatchNorm2d(C),
            nn.ReLU(True),
            nn.Dropout(0.4),
            nn.Identity(),
            nn.LeakyReLU(0.1, True),
            WritesInput(rng),
            ReturnsInput(rng),
            nn.ELU(inplace=True),
        ]
        super().__init__(*rng.sample(layers, rng.randint(2, 5)))


class WritesInput(Layer):
    def forward(self, x):
        if self.when(self, x):
            x.mul_(0.5)
        return self.conv(x)


class WritesPart(Layer):
    def forward(self, x):
        if self.when(self, x):
            x[:, :2] += 0.25
        return self.conv(x)


class ReturnsInput(Layer):
    def forward(self, x):
        return x if self.when(self, x) else self.conv(x)


class ReturnsView(Layer):
    def forward(self, x):
        return x.view(x.shape) if self.when(self, x) else torch.relu(x)


class Gaps(Layer):
    def setup(self, rng):
        self.conv, self.step = conv(C, 2 * C), rng.choice([1, 2])

    def forward(self, x):
        y = self.conv(x)
        return y[:, :C] if self.step == 1 else y[:, ::2]


class Parts(Layer):
    """Returns parts of one tensor, by chunk, split or unbind; a caller may write into one of them."""

    def setup(self, rng):
        self.conv, self.how = conv(C, 2 * C), rng.choice(["chunk", "split", "unbind"])

    def forward(self, x):
        y = self.conv(x)
        if self.how == "unbind":
            return y.unflatten(1, (2, C)).unbind(1)
        return y.chunk(2, 1) if self.how == "chunk" else y.split([C, C], 1)


class Listed(Layer):
    """A dict with a list in it; parts that share memory."""

    def forward(self, x):
        y = self.conv(x)
        return {"all": y, "some": [y[:, :3], y.detach()]} if self.when(self, x) else {"all": y, "some": [y * 2]}


class FillsBuffer(Layer):
    """Returns a buffer that it fills."""

    def setup(self, rng):
        self.conv = conv()
        self.register_buffer("held", torch.zeros(1))

    def forward(self, x):
        y = self.conv(x)
        if self.held.shape != y.shape:
            self.held = torch.zeros_like(y)
        self.held.copy_(y)
        return self.held


class Table(Layer):
    """Returns part of a buffer that never moves, as positional encodings do."""

    def setup(self, rng):
        self.register_buffer("table", torch.randn(1, C, 16, 16), persistent=rng.random() < 0.5)

    def forward(self, x):
        return self.table[:, :, : x.shape[2], : x.shape[3]].expand(len(x), -1, -1, -1) + x


class MovesInEval(Layer):
    """A running mean that moves in every mode, or under a condition; in place, by a new tensor, or through .data."""

    def setup(self, rng):
        self.conv, self.how = conv(), rng.choice(["in place", "new", "data", "data in place"])
        self.register_buffer("mean", torch.zeros(1, C, 1, 1))

    def forward(self, x):
        if self.when(self, x):
            now = x.mean((0, 2, 3), keepdim=True)
            if self.how == "in place":
                self.mean.mul_(0.5).add_(now)
            elif self.how == "new":
                self.mean = 0.5 * self.mean + now
            elif self.how == "data":
                self.mean.data = 0.5 * self.mean.data + now
            else:
                self.mean.data.copy_(0.5 * self.mean.data + now)
        return self.conv(x) - self.mean


class MovesParameter(Layer):
    """A power iteration's vector kept as a parameter, moved through .data in every pass."""

    def setup(self, rng):
        self.conv = conv()
        self.u = nn.Parameter(torch.randn(C), requires_grad=False)

    def forward(self, x):
        w = self.conv.weight.flatten(1)
        v = w.t() @ self.u.data
        u = w @ (v / v.norm())
        self.u.data = u / u.norm()
        return self.conv(x) / u.norm()


class Reads(Layer):
    """Reads the statistics of a norm elsewhere."""

    def setup(self, rng):
        self.norm = nn.BatchNorm2d(C)
        self.late = conv()

    def forward(self, x):
        return self.norm(x)


class Caches(Layer):
    """A grid on self, made anew for another size."""

    def setup(self, rng):
        self.conv, self.grid = conv(), None

    def forward(self, x):
        if self.grid is None or self.grid.shape != x.shape[2:]:
            self.grid = torch.linspace(-1, 1, x[0, 0].numel()).view(x.shape[2:])
        return self.conv(x + self.grid)


class Stashes(Layer):
    """Leaves what it saw on self, for a later layer."""

    def setup(self, rng):
        self.conv, self.seen = conv(), None

    def forward(self, x):
        y = self.conv(x)
        self.seen = y
        return torch.relu(y)


class Remembers(Layer):
    """A state that goes on from call to call, in a number or a list."""

    def setup(self, rng):
        self.conv, self.how = conv(), rng.choice(["number", "tensor", "list"])
        self.state = {"number": 0.0, "tensor": torch.zeros(()), "list": [0.0]}[self.how]

    def forward(self, x):
        now = float(x.mean())
        if self.how == "number":
            self.state = 0.5 * self.state + now
            return self.conv(x) + self.state
        if self.how == "tensor":
            self.state.mul_(0.5).add_(now)
            return self.conv(x) + self.state
        self.state.append(now)
        return self.conv(x) + sum(self.state[-3:])


class Draws(Layer):
    def forward(self, x):
        return self.conv(x) + (torch.randn_like(x) if self.when(self, x) else 0)


class Appends(Layer):
    """Leaves a value in a list that it is given."""

    def forward(self, x, skips):
        y = self.conv(x)
        skips.append(y)
        return torch.relu(y)


class Constant(Layer):
    """A view of a parameter handed to a layer."""

    def setup(self, rng):
        self.const, self.conv = nn.Parameter(torch.randn(1, C, 1, 1)), conv()

    def forward(self, x):
        return x + self.conv(self.const.expand(len(x), -1, *x.shape[2:]))


KINDS = [
    *(Plain, Plain, Norm, Activation, Activation, Chain, Chain, WritesInput, WritesPart, ReturnsInput, ReturnsView),
    *(Gaps, Parts, Listed, FillsBuffer, Table, MovesInEval, MovesParameter, Reads, Caches, Stashes, Remembers, Draws),
    *(Appends, Constant),
]


class Net(nn.Module):
    """Layers one after the other, with skips, functional operations in place between them, and shared layers."""

    def __init__(self, rng, inside, outside, many):
        super().__init__()
        self.head, self.tail = conv(inside, C), conv(C, outside, 1)
        shared = rng.choice(KINDS)(rng)
        plain = isinstance(shared, Appends)
        self.body = nn.ModuleList(
            shared if not plain and rng.random() < 0.15 else rng.choice(KINDS)(rng) for _ in range(many)
        )
        self.skips = [rng.choice([None, None, rng.randrange(9)]) for _ in range(many)]
        self.between = [rng.choice([None] * 6 + ["+=", "mul_", "relu_", "if", "first"]) for _ in range(many)]
        self.fills = rng.random() < 0.1
        self.register_buffer("out", torch.zeros(1))

    def forward(self, x):
        h = self.head(x)
        kept = [h]
        for place, layer in enumerate(self.body):
            if isinstance(layer, Appends):
                skips = []
                h = layer(h, skips)
                h = h + skips[0]
            else:
                h = layer(h)
            if isinstance(h, dict):
                h["some"][0].mul_(0.5)
                h = h["all"] + h["some"][-1].mean()
            elif isinstance(h, tuple):
                if self.between[place] == "first":
                    h[0].relu_()
                h = h[0] + 0.5 * h[1]
            if self.skips[place] is not None and self.skips[place] < len(kept):
                h = h + kept[self.skips[place]]
            operation = self.between[place]
            if operation == "+=":
                h += 0.1
            elif operation == "mul_":
                h = h.mul_(0.9)
            elif operation == "relu_":
                h = h.relu_()
            elif operation == "if" and h.flatten()[0] > 0:
                h *= 0.7
            kept.append(h)
        for layer in self.body:
            if isinstance(layer, Stashes):
                h = h + layer.seen
            elif isinstance(layer, Reads):
                h = h + layer.norm.running_mean.view(1, -1, 1, 1)
        y = self.tail(h)
        if self.fills:
            if self.out.shape != y.shape:
                self.out = torch.zeros_like(y)
            self.out.copy_(y)
            return self.out
        return y


class Unreached(Exception):
    """A layer that a link names is not called for this input."""


# -- by hand -----------------------------------------------------------------------------------------------
def by_hand(loop, G, D, x, steps, strength):
    """y_0 … y_T with torch's own hooks; every pass and every look on a fresh copy of the networks as they are now.

    Returns the outputs, and G as one call leaves it.
    """
    connections, modules = loop.connections, loop.feedback
    before = torch.get_rng_state()
    carried, previous = {}, {}
    first_copy = []

    def generate(signals):
        net = copy.deepcopy(G)
        layers = dict(net.named_modules(remove_duplicate=False))
        now, counts = {}, {}

        def correct(i, feature):
            link = connections[i]
            if signals is None:
                previous[i] = feature.clone()
                return feature
            base = carried.get(i, feature) if link.carry else feature
            phi = to_map(previous.get(i, feature) if link.feature_of == "previous" else base, link.form)
            mine = signals[i]
            if mine is None:
                sizes = [tuple(phi.shape[2:]) if s.ref is None and s.name == "image" else None for s in link.sources]
                mine = []
                for source, size in zip(link.sources, sizes, strict=True):
                    scale = [a / b for a, b in zip(phi.shape[2:], link.form.spatial, strict=True)]
                    form = source.form
                    if len(form.spatial) == len(scale):
                        size = [max(1, round(n * f)) for n, f in zip(form.spatial, scale, strict=True)]
                    else:
                        size = form.spatial
                    mine.append(torch.zeros(len(phi), form.channels, *size))
            if getattr(modules[i], "resize_signals", True):
                mine = [resize(signal, tuple(phi.shape[2:])) for signal in mine]
            corrected = base + strength * from_map(modules[i](phi, *mine), link.form, base)
            now[i] = corrected.clone()  # the value that entered: layers behind may write into it
            return corrected

        by_module = {}
        for i, link in enumerate(connections):
            by_module.setdefault((layers[link.target.name], link.at), []).append(i)
        for (module, at), links in by_module.items():
            if at == "output":

                def after(m, given, output, links=links):
                    place = counts.get((m, "output"), 0)
                    counts[m, "output"] = place + 1
                    for i in links:
                        if connections[i].site.call == place:
                            try:
                                output = change(output, connections[i].site.path, lambda t, i=i: correct(i, t))
                            except LookupError:
                                raise Unreached from None
                    return output

                module.register_forward_hook(after)
            else:

                def ahead(m, given, links=links):
                    place = counts.get((m, "input"), 0)
                    counts[m, "input"] = place + 1
                    for i in links:
                        if connections[i].site.call == place:
                            given = (correct(i, given[0]), *given[1:])
                    return given

                module.register_forward_pre_hook(ahead)
        torch.set_rng_state(before)
        y = net(x.clone())
        y = y.clone()
        for module, at in by_module:
            (module._forward_hooks if at == "output" else module._forward_pre_hooks).clear()
        first_copy.append(net)
        if signals is not None and len(now) < len(connections):
            raise Unreached
        if signals is None and any(c.feature_of == "previous" and i not in previous for i, c in enumerate(connections)):
            raise Unreached
        carried.update(now)
        previous.update(now)
        return y

    judge = copy.deepcopy(D)

    def look(y):
        net = judge if loop.critic_mode == "inherit" else copy.deepcopy(D)  # its own mode: what it moves goes on
        net.train(D.training if loop.critic_mode == "inherit" else False)
        found, counts = {"image": y}, {}
        taps = {s.name: s.ref for link in connections for s in link.sources if s.ref is not None}
        layers = dict(net.named_modules(remove_duplicate=False))
        hooks = []
        for name, ref in taps.items():

            def grab(m, given, output, name=name, ref=ref):
                place = counts.get(name, 0)
                counts[name] = place + 1
                if place == (ref.call or 0):
                    output = output if ref.at == "output" else (given, {})
                    try:
                        for key in ref.path:
                            output = output[key]
                    except LookupError as error:  # a list that is shorter with this input
                        raise Unreached from error
                    found[name] = output.clone()

            layer = layers[ref.name]
            before_it = lambda m, given, grab=grab: grab(m, given, None)
            hooks.append(
                layer.register_forward_hook(grab) if ref.at == "output" else layer.register_forward_pre_hook(before_it)
            )
        try:
            answer = net(y.clone())
        finally:
            for hook in hooks:
                hook.remove()
        if not taps.keys() <= found.keys():
            raise Unreached
        found["response"] = answer.clone()
        return [[to_map(found[s.name], s.form) for s in link.sources] for link in connections]

    everything = dict.fromkeys(range(len(connections)))
    outputs = [None, generate(everything)] if loop.plan.first == "zeros" else [generate(None)]
    while len(outputs) <= steps:
        outputs.append(generate(look(outputs[-1])))
    return outputs, first_copy[0]


def change(tree, path, function):
    if not path:
        return function(tree)
    if isinstance(tree, dict):
        return {**tree, path[0]: change(tree[path[0]], path[1:], function)}
    items = list(tree)
    items[path[0]] = change(items[path[0]], path[1:], function)
    return type(tree)(items)


def held(net):
    """All that a network holds, as plain values."""
    found = {}
    for name, module in net.named_modules():
        for key, value in (*module._parameters.items(), *module._buffers.items()):
            if value is not None:
                found[name, key] = value
        for key in ("state", "grid", "seen"):
            if key in vars(module):
                found[name, key] = vars(module)[key]
    return found


def same(a, b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    return type(a) is type(b) and a == b


def check(seed, calls=8):
    """One random pair. Returns the rollouts that were compared, the links, and a fault in words (None: there is none).

    No rollouts: the pair cannot be attached.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    G, D = Net(rng, 3, 3, rng.randint(2, 7)), Net(rng, 3, 1, rng.randint(1, 4))
    for module in (*G.modules(), *D.modules()):
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    G.train(rng.random() < 0.5)
    D.train(rng.random() < 0.5)
    example = torch.randn(rng.randint(1, 3), 3, 8, 8)
    with torch.no_grad():
        table = [row for row in fbwrap.layers(G, example) if row.name.startswith("body.") and called(row)]
        sources = [row for row in fbwrap.layers(D, example) if row.name.startswith(("body.", "head")) and called(row)]
        links = []
        for row in rng.sample(table, min(len(table), rng.randint(1, 3))):
            shape = rng.choice(row.shapes)
            at = rng.choice(["output", "output", "input"])
            name = reference(row, shape) if at == "output" else reference(row, row.shapes[0], path=False)
            kind = rng.choice(["basic", "dual", "light", "ast", {"kind": "basic", "convs": 1, "norm": "none"}])
            picked = rng.choice(sources)
            source = rng.choice([reference(picked, rng.choice(picked.shapes)), "response", "image"])
            feature = rng.choice(["current", "current", "previous"])
            links.append(fbwrap.Link(name, None if kind == "ast" else source, module=kind, feature=feature, at=at))
        try:
            loop = fbwrap.attach(G, D, links, example=example.clone(), first=rng.choice(["base", "zeros"]),
                                 critic_mode=rng.choice(["eval", "eval", "inherit"]))  # fmt: skip
        except fbwrap.FbwrapError:
            return 0, links, None
        generator = torch.Generator().manual_seed(seed)
        for parameter in loop.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for call in range(calls):
            if rng.random() < 0.3:
                G.train(rng.random() < 0.5)
            if rng.random() < 0.2:
                D.train(rng.random() < 0.5)
            size = (rng.choice([8, 8, 12]), rng.choice([8, 8, 10, 12]))
            x = torch.randn(rng.randint(1, 4), 3, *size) + rng.choice([-1, 0, 1])
            steps, strength = rng.randint(1, 3), rng.choice([1.0, 0.5])
            before = {**held(G)}
            kept = {key: value.clone() for key, value in held(G).items() if isinstance(value, Tensor)}
            critic = copy.deepcopy(D)
            torch.manual_seed(call)
            try:
                expected, after = by_hand(loop, G, D, x, steps, strength)
            except (RuntimeError, ValueError):
                continue  # the network itself refuses such an input
            except Unreached:
                torch.manual_seed(call)
                try:
                    loop.rollout(x.clone(), steps=steps, strength=strength)
                except fbwrap.FbwrapError:
                    continue
                return call + 1, links, f"a layer that is not reached passes unseen: call {call}"
            rng_after = torch.get_rng_state()
            torch.manual_seed(call)
            rollout = loop.rollout(x.clone(), steps=steps, strength=strength)
            where = f"call {call}, T = {steps}, G {'train' if G.training else 'eval'}"
            for t, y in enumerate(expected):
                if y is not None and not torch.equal(rollout.outputs[t], y):
                    return call + 1, links, f"y_{t} differs: {where}"
            if not torch.equal(torch.get_rng_state(), rng_after):
                return call + 1, links, f"random numbers differ afterwards: {where}"
            now = held(G)
            for key, value in now.items():
                plain = key[1] in ("state", "grid", "seen")
                wanted = held(after)[key] if plain else kept[key]
                if not same(value, wanted) or (not plain and value is not before[key]):
                    return call + 1, links, f"{key} is not as it should be: {where}"
            if any(not same(a, b) for a, b in zip(held(D).values(), held(critic).values(), strict=True)):
                return call + 1, links, f"D moved: {where}"
    return calls, links, None


def called(row):
    return row.shapes not in (("(not called)",), ())


def reference(row, shape, path=True):
    """A layer's name with the call and path of one of its outputs, as :func:`fbwrap.layers` lists them."""
    call = shape.partition(" ")[0] if shape.startswith("#") else ""
    rest = shape.removeprefix(call).strip()
    inside = rest.partition(" ")[0] if rest.startswith("[") and path else ""
    return row.name + call + inside
