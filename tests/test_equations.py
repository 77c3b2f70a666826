"""The papers' equations, written out by hand: outputs and gradients agree to 1e-6 in float64."""

import torch
import torch.nn.functional as F
from helpers import stir
from torch import nn
from zoo import Deconv, patch

import fbwrap


class ResNet9(nn.Module):
    """FAL's image-to-image generator in small: G_e down, 9 residual blocks, G_d up (4 + 5 blocks)."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
            self.norm = nn.InstanceNorm2d(width)

        def forward(self, x):
            return x + self.b(F.relu(self.norm(self.a(x))))

    def __init__(self, width=6):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.ReLU(True))
        self.blocks = nn.ModuleList(self.Block(width) for _ in range(9))
        self.up = nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, x):
        h = self.down(x)
        for block in self.blocks:
            h = block(h)
        return torch.tanh(self.up(h))


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-6)


def f_by_hand(module, theta, phi):
    """f([θ, φ]) = BN(conv(ReLU(BN(conv(·))))), footnote 1 and Eq. 2, BN with its running statistics."""
    c1, n1, _, c2, n2 = module.body
    x = torch.cat([theta, phi], 1)

    def bn(x, n):
        shape = (1, -1, 1, 1)
        x = (x - n.running_mean.view(shape)) / torch.sqrt(n.running_var.view(shape) + n.eps)
        return x * n.weight.view(shape) + n.bias.view(shape)

    x = torch.relu(bn(F.conv2d(x, c1.weight, c1.bias, padding=1), n1))
    return bn(F.conv2d(x, c2.weight, c2.bias, padding=1), n2)


def afl_by_hand(G, D, loop, z, steps, alpha, previous):
    """AFL Eq. 1–6 for a DCGAN with two dual links: y_{t+1} = G(x, α·E(y_t))."""
    g, d = G.main, D

    def theta(y):
        with torch.no_grad():
            h = F.leaky_relu(d[0](y), 0.2)
            return h, F.leaky_relu(d[2](h), 0.2)

    def generate(features, seen):
        phi1 = torch.relu(g[1](g[0](z)))
        new1 = phi1 if features is None else phi1 + alpha * f_by_hand(
            loop.feedback[0], features[1], seen[0] if previous else phi1
        )  # fmt: skip
        phi2 = torch.relu(g[4](g[3](new1)))
        new2 = phi2 if features is None else phi2 + alpha * f_by_hand(
            loop.feedback[1], features[0], seen[1] if previous else phi2
        )  # fmt: skip
        return torch.tanh(g[6](new2)), (new1, new2)

    y, seen = generate(None, None)
    for _ in range(steps):
        y, seen = generate(theta(y), seen)
    return y


def check(loop, by_hand, run):
    expected = by_hand()
    wanted = torch.autograd.grad(expected.square().sum(), list(loop.parameters()), allow_unused=True)
    y = run()
    got = torch.autograd.grad(y.square().sum(), list(loop.parameters()), allow_unused=True)
    assert close(y, expected)
    assert any(g is not None and g.abs().max() > 1e-3 for g in got)
    for name, a, b in zip(dict(loop.named_parameters()), got, wanted, strict=True):
        assert (a is None) == (b is None), name
        assert a is None or close(a, b), name


def test_afl():
    for previous in (False, True):
        for steps in (1, 2, 3):
            torch.manual_seed(0)
            G, D = Deconv().double().eval(), patch().double()
            z = torch.randn(4, 6, 1, 1, dtype=torch.float64)
            feature = "previous" if previous else "current"
            links = [fbwrap.Link("main.2", "3", feature=feature), fbwrap.Link("main.5", "1", feature=feature)]
            loop = stir(fbwrap.attach(G, D, links, example=z), std=0.2)
            for module in loop.feedback.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.2)
                    module.running_var.uniform_(0.5, 1.5)
            with loop.settings(strength=0.3, steps=steps):
                check(loop, lambda: afl_by_hand(G, D, loop, z, steps, 0.3, previous), lambda: loop(z))  # noqa: B023


def fal_by_hand(G, D, loop, x, steps):
    """FAL Eq. 5–10: h_0 = G_e(x); h_t = γ∘h_{t-1} + β; y_t = G_d(h_t); y_0 = r_0 = 0."""
    ast = loop.feedback[0]
    e1, n1, _, e2, _ = ast.encoder.body
    d1, m1, _, d2 = ast.decoder

    def instance(x, n):
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(var + n.eps) * n.weight.view(1, -1, 1, 1) + n.bias.view(1, -1, 1, 1)

    h = G.down(x)
    for block in G.blocks[:4]:
        h = block(h)
    y, r = torch.zeros_like(x), torch.zeros(len(x), 1, x.shape[2] // 4, x.shape[3] // 4, dtype=x.dtype)
    for _ in range(steps):
        up = F.interpolate(r, size=y.shape[2:], mode="bilinear", align_corners=False)
        f = torch.relu(instance(F.conv2d(torch.cat([y, up], 1), e1.weight, e1.bias, 2, 1), n1))
        f = torch.relu(F.conv2d(f, e2.weight, e2.bias, padding=1))
        out = torch.relu(instance(F.conv2d(torch.cat([h, f], 1), d1.weight, d1.bias, padding=1), m1))
        gamma, beta = F.conv2d(out, d2.weight, d2.bias, padding=1).chunk(2, 1)
        h = (1 + gamma) * h + beta
        u = h
        for block in G.blocks[4:]:
            u = block(u)
        y_now = torch.tanh(G.up(u))
        with torch.no_grad():
            y, r = y_now.detach(), D(y_now)
    return y_now


def test_fal():
    for steps in (1, 2, 3):
        torch.manual_seed(0)
        G, D = ResNet9().double().eval(), patch().double()
        x = torch.randn(2, 3, 16, 24, dtype=torch.float64)
        loop = stir(fbwrap.attach(G, D, ["blocks.3"], module="ast", example=x, steps=steps), std=0.2)
        assert loop.plan.first == "zeros"
        check(loop, lambda: fal_by_hand(G, D, loop, x, steps), lambda: loop(x))  # noqa: B023


def test_gradients_reach_g_where_it_learns_too():
    """FAL as published trains G with the head: gradients of G equal those of the naive computation."""
    torch.manual_seed(0)
    G, D = ResNet9().double().eval(), patch().double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    loop = stir(fbwrap.attach(G, D, ["blocks.3"], module="ast", example=x, steps=3), std=0.2)
    wanted = torch.autograd.grad(fal_by_hand(G, D, loop, x, 3).square().sum(), list(G.parameters()))
    got = torch.autograd.grad(loop(x).square().sum(), list(G.parameters()))
    assert all(close(a, b) for a, b in zip(got, wanted, strict=True))


def test_through_time():
    """detach_signals=False: y_1's error reaches the module through D and y_2 too."""
    torch.manual_seed(0)
    G, D = Deconv().double().eval(), patch().double()
    z = torch.randn(2, 6, 1, 1, dtype=torch.float64)
    loop = stir(fbwrap.attach(G, D, [("main.5", "1")], module="basic", example=z, detach_signals=False), std=0.2)
    phi = G.main[:6](z)

    def by_hand():
        y = G(z)
        for _ in range(2):
            theta = F.leaky_relu(D[0](y), 0.2)
            c1, n1, _, c2, n2 = loop.feedback[0].body
            y = G.main[6:](phi + n2(c2(torch.relu(n1(c1(theta))))))
        return y

    with loop.settings(steps=2):
        check(loop, by_hand, lambda: loop(z))
        loop.detach_signals = True
        detached = torch.autograd.grad(loop(z).square().sum(), list(loop.parameters()))
    wanted = torch.autograd.grad(by_hand().square().sum(), list(loop.parameters()))
    assert not all(close(a, b) for a, b in zip(detached, wanted, strict=True))


def test_the_papers_residual_blocks():
    """SN-GAN's D sees the negative half of its image; CycleGAN's block is x + IN(conv(ReLU(IN(conv x))))."""
    from fbwrap.recipes.networks.residual import ConvBlock, Discriminator, TranslationGenerator

    torch.manual_seed(0)
    D, x = Discriminator(8).eval(), -torch.rand(2, 3, 32, 32)
    seen = []
    D.blocks[0].conv1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    D(x)
    assert torch.equal(seen[0], x)
    block, h = ConvBlock(4), torch.randn(2, 4, 5, 5)
    assert all(isinstance(each, ConvBlock) for each in TranslationGenerator(width=1).blocks)
    first, second = block.body[0], block.body[3]
    conv = lambda m, h: F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), m.weight, m.bias)
    wanted = h + F.instance_norm(conv(second, F.relu(F.instance_norm(conv(first, h)))))
    torch.testing.assert_close(block(h), wanted)
