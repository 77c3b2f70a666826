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
    """Attach feedback from ``discriminator`` to ``generator``. Neither network is changed.

    Examples:
        >>> loop = fbwrap.attach(G, D, [("main.5", "main.8")], example=z)    # doctest: +SKIP
        >>> y = loop(z)                                                      # doctest: +SKIP

    Args:
        generator: G, a module. Wrappers (DDP, torch.compile) and objects that hold a network (a spandrel descriptor, a
            ``RealESRGANer``) are looked through; ``loop.generator`` is the network. Or a name:
            ``"spandrel:FILE"``, the super-resolution network in a checkpoint on disk or on the Hub
            (``"spandrel:user/name/x4.safetensors"``), or ``"diffusers:user/name"``, an autoencoder.
        discriminator: D, a module that takes what G returns (see ``critic_input``). D stops after the last layer that a
            link reads, so its last layers need not fit the image size. ``"timm:NAME"``: a timm backbone
            (:mod:`fbwrap.adapters.timm_critic`). None: there is no D, and the source of every link is ``"image"``.
        layers: which layers to link. ``"auto"``: the papers' layers for networks that an adapter knows, else layers of
            G and D of similar size. ``"auto:NAME"``: another set of links that the adapter offers. Or a list; each item
            is the name of a layer of G, a pattern (``"body.*"``), a module, a pair ``(G_LAYER, D_LAYER)``, or a
            :class:`~fbwrap.Link`. None: no links (for :mod:`fbwrap.samplers`).
        module: the kind of feedback module, for links that name none: ``"basic"``, ``"dual"``, ``"light"``,
            ``"pyramid"``, ``"fpn"``, ``"ast"``, ``"film"``, ``"concat"``, ``"add"``, a dict with options, or a class.
            ``"auto"``: ``"fpn"``, as wide as ``budget`` allows; with ``layers="auto"`` it is one link, at the last
            layer of G that would have one, and it reads all layers of D that would be read. None: the adapter's with
            ``layers="auto"``, else ``"dual"``.
        budget: with ``module="auto"``, the highest cost of a sample with one feedback step, as a multiple of G's own
            floating-point operations. None: 2.5. If even the narrowest modules cost more, they are taken, and the plan
            says so.
        example: inputs of G: a tensor, a tuple of positional inputs, or a dict of keyword inputs. G runs on them once,
            to learn shapes and the order of its layers. None: the adapter's.
        critic_input: what D is called with: a function ``f(output, *args, **kwargs)`` of G's output and inputs, or
            ``"output"``, ``"condition_and_output"``, ``"output_and_condition"`` (both joined on the channels),
            ``"output_and_label"``, ``"output_twice"`` (HiFi-GAN's D(y, ŷ)) or ``"all_outputs"`` (a tuple is several
            arguments: GigaGAN's D(image, smaller images)). None: the adapter's, else ``"output"``.
        response: where D's response is in what D returns, if it returns several tensors: a path such as ``"[0][-1]"``,
            or a function.
        steps: T, the number of feedback steps. 0: G alone. None: the adapter's with ``layers="auto"`` (FAL: 3), else 1.
        strength: α of all links. It is multiplied by each link's own strength.
        first: what the first step sees: ``"base"``, G's sample y_0 = G(x), as in AFL; or ``"zeros"``, as in FAL. None:
            ``"zeros"`` if all modules are FAL's.
        critic_mode: ``"eval"``: D runs in eval mode. ``"inherit"``: D runs in the mode that it is in, and what it
            changes (statistics, the vectors of spectral norm) is kept from step to step within a call, as in the AFL
            authors' code. After the call D is as before.
        detach_signals: whether gradients stop at D's features (as in the AFL authors' code).
        method: the method of G that generates, if it is not ``forward``: ``"decode"`` of a VAE.
        value_range: the lowest and highest value of G's samples, for discriminators made by name.
        critic_size: name of an attribute of D that holds the only height that D accepts, although the layers that are
            read would accept any (BasicSR's VGG style: ``"input_size"``). While the loop runs D, it holds the sample's.
        pack: how many samples D judges together (PacGAN, CTGAN). Neighbours in the batch form a pack, and all of them
            get the same features of D. If the batch does not divide into packs, its first samples are used a second
            time for D. A sample then depends on its neighbours. None: the adapter's, else 1.
        adapter: what may fill in options that are left open: ``"auto"``, the name of an adapter, or an
            :class:`~fbwrap.adapter.Adapter`. None: nothing. :func:`fbwrap.explain` shows which adapters match.
        replay: whether layers of G before the first corrected layer are computed only once in a call. Pass False for a
            G that writes to tensors without torch noticing: through ``.data``, NumPy arrays or its own kernels. Can be
            changed later: ``loop.replay``.

    Returns:
        The loop, in eval mode. Its modules are on the device of the features that they correct. Before training it
        returns exactly what G returns.

    Raises:
        LayerNotFoundError, LayerNotCalledError: a layer does not exist, or never runs.
        ExampleError: there is no example, or G refuses it.
        CriticError: D refuses what G returned, or returns NaN.
        PairingError: a link's layers cannot be connected.
        SettingError: an option has a value that makes no sense.
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
