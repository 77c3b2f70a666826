"""What tests do with networks and loops: copy, stir, compare."""

import copy

import pytest
import torch
from torch import Tensor

import fbwrap


def clone(tree):
    if isinstance(tree, Tensor):
        return tree.clone()
    return type(tree)(clone(a) for a in tree) if isinstance(tree, list | tuple) else tree


def first(output):
    if isinstance(output, Tensor):
        return output
    return first(next(iter(output.values() if isinstance(output, dict) else output)))


def stir(loop, std=0.3, seed=1):
    """Give every parameter of the head a random value, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in loop.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, device="cpu") * std)
    return loop


def dice():
    """The state of torch's random numbers, here and on a GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def throw(states):
    """Go back to a state of :func:`dice`."""
    torch.set_rng_state(states[0])
    if states[1]:
        torch.cuda.set_rng_state_all(states[1])


def state(*models):
    """All that must not change: values, modes, requires_grad, hooks, attributes."""
    found = []
    for model in models:
        found += [(k, v.clone()) for k, v in model.state_dict().items()]
        for name, module in model.named_modules():
            counts = (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            found.append((name, module.training, counts, sorted(vars(module))))
        found += [(name, p.requires_grad) for name, p in model.named_parameters()]
    return found


def same(before, after):
    return len(before) == len(after) and all(
        a[0] == b[0] and (torch.equal(a[1], b[1]) if isinstance(a[1], Tensor) else a == b)
        for a, b in zip(before, after, strict=True)
    )


Z = torch.randn(3, 6, 1, 1, generator=torch.Generator().manual_seed(0))


def made(nets, trained=True):
    """A loop whose head is worth pushing; with a D of its own where it is ``trained``."""
    torch.manual_seed(1)
    loop = stir(fbwrap.attach(*nets, [("main.5", "1")], example=Z))
    if trained:
        loop.use_discriminator(stir(copy.deepcopy(nets[1])))
    return loop


def sr_files():
    """A small SRVGGNetCompact, as spandrel knows it by its keys, published by somebody."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(3)
    return SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2).state_dict()
