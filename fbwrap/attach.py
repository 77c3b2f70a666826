"""``fbwrap.attach``: put feedback modules between a generator and its discriminator.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 8))
    >>> loop = fbwrap.attach(G, D, layers=["1"], example=torch.zeros(1, 3, 8, 8))
    >>> loop.connections[0].sources[0].name
    '1'
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from .adapter import Adapter
from .attaching.build import build_loop
from .attaching.request import Layers, Request
from .feedback.critic import CriticInput
from .loop import FeedbackLoop


def attach(
    generator: object,
    discriminator: nn.Module | str | None,
    layers: Layers = "auto",
    *,
    module: object = None,
    budget: float | None = None,
    example: object = None,
    critic_input: str | CriticInput | None = None,
    response: str | Callable[[Any], Tensor] | None = None,
    steps: int | None = None,
    strength: float | Tensor = 1.0,
    first: Literal["base", "zeros"] | None = None,
    critic_mode: Literal["eval", "inherit"] = "eval",
    detach_signals: bool = True,
    method: str | None = None,
    value_range: tuple[float, float] | None = None,
    critic_size: str | None = None,
    pack: int | None = None,
    adapter: str | Adapter | None = "auto",
    replay: bool = True,
) -> FeedbackLoop:
    """Attach feedback from ``discriminator`` to ``generator``; neither is changed.

    Examples:
        >>> loop = fbwrap.attach(G, D, [("main.5", "main.8")], example=z)    # doctest: +SKIP
        >>> y = loop(z)                                                      # doctest: +SKIP

    Args:
        generator: any module; wrappers (DDP, torch.compile) are looked through, and so are loaders'
            objects that hold one (a spandrel descriptor, a ``RealESRGANer``). ``"spandrel:FILE"``: the
            super-resolution network in a checkpoint, here or on the Hub (``"spandrel:user/name/x4.safetensors"``);
            ``"diffusers:user/name"``: an autoencoder. It is ``loop.generator``.
        discriminator: any module that takes what G returns (see ``critic_input``); it may stop early,
            so its head need not fit the image size. ``"timm:NAME"``: a timm backbone as the critic, see
            :mod:`fbwrap.adapters.timm_critic`. None: every link's source is ``"image"``.
        layers: ``"auto"`` (the papers' layers where an adapter knows the networks, else pairs by spatial
            size), ``"auto:NAME"`` (another placement that the adapter knows by name), or a list of generator
            layer names, globs (``"body.*"``), modules, ``(generator_layer, discriminator_layer)`` pairs, or
            :class:`~fbwrap.Link`. None: no feedback; the loop is G, with a D that :mod:`fbwrap.samplers` ask.
        module: the kind of feedback module for links that name none: ``"basic"``, ``"dual"``,
            ``"light"``, ``"pyramid"``, ``"fpn"``, ``"ast"``, ``"film"``, ``"concat"``, ``"add"``, a dict with options,
            or a class. ``"auto"``: ``"fpn"``, as wide as the budget allows; with ``layers="auto"`` too it is one link,
            at the last layer of G that would have one, from all layers of D that would. None: the adapter's with
            ``layers="auto"``, else ``"dual"``.
        budget: with ``module="auto"``, what a sample with one step of feedback may cost, in multiples of G's own
            FLOPs. None: 2.5. If even the narrowest modules cost more, they are taken, and the plan says so.
        example: inputs of G, used once to learn shapes and call order: a tensor, a tuple of positional
            inputs, or a dict of keyword inputs. None: the adapter's.
        critic_input: what D is called with, given what G returned and was given:
            ``f(output, *args, **kwargs)``, or a preset: ``"output"`` (default), ``"condition_and_output"``,
            ``"output_and_condition"`` (concatenated on channels), ``"output_and_label"``,
            ``"output_twice"`` (HiFi-GAN's D(y, ŷ)). None: the adapter's, else ``"output"``.
        response: where D's response is in what it returns, if not the only tensor: a path such as
            ``"[0][-1]"``, or a function.
        steps: T. 0 runs G alone. None: the adapter's with ``layers="auto"`` (FAL: 3), else 1.
        strength: α for all links; multiplied by each link's own.
        first: what the first step sees: ``"base"``, y_0 = G(x) (AFL), or ``"zeros"`` (FAL). None:
            ``"zeros"`` if all modules are FAL's.
        critic_mode: ``"eval"``: D runs in eval mode in the loop. ``"inherit"``: in the mode it is in, and what it
            moves there (statistics, the vectors of spectral norm) goes on from step to step within a call, as in the
            AFL authors' code; after the call it is as it was.
        detach_signals: whether D's features carry no gradient (as in the AFL authors' code).
        method: the method of G that generates, if it is not calling it: ``"decode"`` of a VAE.
        value_range: of G's samples, for critics made by name.
        critic_size: an attribute of D that holds the only height that D takes, though the layers that are
            linked take any (BasicSR's VGG style: ``"input_size"``): while D is looked at, it holds the sample's.
        pack: how many samples D judges as one: PacGAN, CTGAN. A pack is so many neighbours in the batch, and its
            signal goes to all of them; a batch that is no multiple of it is filled up for D, with its own first
            samples. So a sample depends on its neighbours. None: as an adapter knows, else 1.
        adapter: ``"auto"``, an adapter's name or an :class:`~fbwrap.adapter.Adapter`: who may fill in what is
            left open here (:func:`fbwrap.explain` says who does). None: nobody.
        replay: whether G's layers before the first correction are computed once in a call. Writes in place are told by
            torch's version counters; pass False for a G that writes behind torch's back (through ``.data``, NumPy
            views, or kernels of its own). It may be changed later: ``loop.replay``.

    Returns:
        The loop, in eval mode, its modules on the device of the features they correct. A fresh one
        changes nothing.

    Raises:
        LayerNotFoundError, LayerNotCalledError: a layer that does not exist or never runs.
        ExampleError: no example, or one that G refuses.
        CriticError: D refuses what G returned, or answers NaN.
        PairingError: shapes that cannot be connected.
        SettingError: an option that makes no sense.
    """
    return build_loop(
        Request(
            generator,
            discriminator,
            layers,
            module=module,
            budget=budget,
            example=example,
            critic_input=critic_input,
            response=response,
            steps=steps,
            strength=strength,
            first=first,
            critic_mode=critic_mode,
            detach_signals=detach_signals,
            method=method,
            value_range=value_range,
            critic_size=critic_size,
            pack=pack,
            adapter=adapter,
            replay=replay,
        )
    )
