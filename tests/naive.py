"""The loop written out by hand, with torch's own hooks: what every other way of running it must equal."""

import random

import torch
from helpers import clone, dice, first, throw
from torch import Tensor

from fbwrap.feedback.features import from_map, resize, to_map


def naive(loop, G, D, args, steps, kwargs=None, strength=1.0):
    """AFL Eq. 3 and FAL Eq. 6–10 by hand, with torch's own hooks, all of G and D anew at each step."""
    kwargs = kwargs or {}
    connections, modules = loop.connections, loop.feedback
    previous, carried = {}, {}
    before, host = dice(), random.getstate()
    start = {k: v.clone() for k, v in G.state_dict().items()}

    def layer(net, name):
        return dict(net.named_modules(remove_duplicate=False))[name]

    def generate(signals, t):
        """One full run of G; ``signals``: per link, or None for the base pass."""
        counts, handles, now = {}, [], {}

        def hook(module, given, output, links, at):
            place = counts.get((module, at), 0)
            counts[module, at] = place + 1
            for i in links:
                c = connections[i]
                if c.site.call == place:
                    output = put(output, c.site.path if at == "output" else (), lambda x, i=i: correct(i, x))
            return output

        def correct(i, x):
            c = connections[i]
            if signals is None:
                previous[i] = x.clone()  # layers behind may write into it
                return x
            base = carried.get(i, x) if c.carry else x
            seen = previous.get(i, x) if c.feature_of == "previous" else base
            phi = to_map(seen, c.form)
            s = signals[i]
            if s is None:
                scale = [a / b for a, b in zip(phi.shape[2:], c.form.spatial, strict=True)]
                s = []
                for form in (q.form for q in c.sources):
                    size = form.spatial
                    if len(size) == len(scale):
                        size = [round(n * f) for n, f in zip(size, scale, strict=True)]
                    s.append(torch.zeros(len(phi), form.channels, *size, dtype=phi.dtype, device=phi.device))
            if getattr(modules[i], "resize_signals", True):
                s = [resize(q, tuple(phi.shape[2:])) for q in s]
            corrected = base + strength * from_map(modules[i](phi, *s), c.form, base)
            now[i] = corrected.clone()
            return corrected

        by_module = {}
        for i, c in enumerate(connections):
            by_module.setdefault((layer(G, c.target.name), c.at), []).append(i)
        for (module, at), links in by_module.items():
            if at == "output":
                handles.append(
                    module.register_forward_hook(lambda m, a, o, links=links: hook(m, a, o, links, "output"))
                )
            else:
                handles.append(
                    module.register_forward_pre_hook(
                        lambda m, a, links=links: (hook(m, a, a[0], links, "input"), *a[1:])
                    )
                )
        throw(before)
        random.setstate(host)
        G.load_state_dict(start)
        try:
            output = (
                getattr(G, loop.method)(*clone(args), **kwargs)
                if loop.method != "forward"
                else G(*clone(args), **kwargs)
            )
        finally:
            for handle in handles:
                handle.remove()
        carried.update(now)
        previous.update(now)
        return output

    def look(output):
        """All of D on an output: every source of every link."""
        values, handles, counts = {}, [], {}
        wanted = {s.name: s for c in connections for s in c.sources if s.ref is not None}

        def grab(module, value_at, mine, at):
            place = counts.get((module, at), 0)
            counts[module, at] = place + 1
            for s in mine:
                if (s.ref.call or 0) == place and s.ref.at == at:
                    value = value_at
                    for key in s.ref.path:
                        value = value[key]
                    values[s.name] = value.detach().clone()

        by_module = {}
        for s in wanted.values():
            by_module.setdefault(layer(D, s.ref.name), []).append(s)
        for module, mine in by_module.items():
            handles.append(module.register_forward_hook(lambda m, a, o, mine=mine: grab(m, o, mine, "output")))
            before_it = lambda m, a, k, mine=mine: grab(m, (a, k), mine, "input")
            handles.append(module.register_forward_pre_hook(before_it, with_kwargs=True))
        if D is None:
            return {i: [to_map(first(output).detach(), s.form) for s in c.sources] for i, c in enumerate(connections)}
        shown = output.clone() if isinstance(output, Tensor) else output
        count, pack = len(first(output)), loop.critic_call.pack
        rows = [row % count for row in range(-(-count // pack) * pack)]  # whole packs, the first samples again
        whole = shown, args
        if pack > 1:
            whole = shown[rows], tuple(a[rows] if isinstance(a, Tensor) else a for a in args)
        given = loop.critic_input(whole[0], *whole[1], **kwargs)
        size = getattr(D, "input_size", None)
        if size is not None:
            D.input_size = first(output).shape[2]
        was = [(m, m.training) for m in D.modules()]
        if loop.critic_mode == "eval":
            D.eval()
        kept = {k: v.clone() for k, v in D.state_dict().items()}
        try:
            with torch.no_grad():
                answer = D(*given) if isinstance(given, tuple) else D(given)
            for key in (loop.response or "")[1:-1].split("][") if loop.response else ():
                answer = answer[int(key)]
            if isinstance(answer, Tensor):
                values["response"] = answer.reshape(-1, 1) if answer.dim() < 2 else answer
        except (RuntimeError, TypeError):
            assert set(wanted) <= set(values), "D may only fail behind what is looked at"
        finally:
            if pack > 1:
                values = {name: value.repeat_interleave(pack, 0)[:count] for name, value in values.items()}
            values["image"] = first(output).detach()
            if size is not None:
                D.input_size = size
            for handle in handles:
                handle.remove()
            for m, mode in was:
                m.training = mode
            if loop.critic_mode == "eval":
                D.load_state_dict(kept)
        return {i: [to_map(values[s.name], s.form) for s in c.sources] for i, c in enumerate(connections)}

    if loop.plan.first == "zeros":
        outputs = [None, generate(dict.fromkeys(range(len(connections))), 1)]
    else:
        outputs = [generate(None, 0)]
    judged = {k: v.clone() for k, v in D.state_dict().items()} if D is not None else {}
    while len(outputs) <= steps:
        outputs.append(generate(look(outputs[-1]), len(outputs)))
    if D is not None:
        D.load_state_dict(judged)  # in its own mode what it moves goes on from step to step
    return outputs


def put(tree, path, change):
    if not path:
        return change(tree)
    if isinstance(tree, tuple | list):
        items = list(tree)
        items[path[0]] = put(items[path[0]], path[1:], change)
        return type(tree)(items)
    return {**tree, path[0]: put(tree[path[0]], path[1:], change)}
