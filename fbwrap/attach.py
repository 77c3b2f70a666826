"""``fbwrap.attach``: put feedback modules between a generator and its discriminator.

Example:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 8))
    >>> loop = fbwrap.attach(G, D, layers=["1"], example=torch.zeros(1, 3, 8, 8))
    >>> loop.connections[0].sources[0].name
    '1'
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .axes import Axes
from .bases import held
from .checks import check_loaded
from .critic import CriticInput, call, critic_input_of, image_of, response_of, sized
from .errors import CriticError, ExampleError, FbwrapError, PairingError, SettingError
from .fingerprint import fingerprint, names_of_places
from .links import Connection
from .locks import locked
from .loop import FeedbackLoop
from .modes import training_mode
from .modules import Transform, build, spec_of
from .naming import entry, modules_of, unwrap, without_forward
from .plan import event, schedule
from .planning import plan_of, unused_layers
from .probe import Trace, device_of, look
from .proof import proven
from .recognise import Recognised, build_critic
from .replay import Schedule, Site
from .resolve import Layers, Resolver, is_auto
from .state import Snapshot
from .surroundings import bare, eager, outside_inference_mode, usable
from .trees import tensors

logger = logging.getLogger("fbwrap")


def attach(
    generator: Any,
    discriminator: nn.Module | str | None,
    layers: Layers = "auto",
    *,
    module: Any = None,
    example: Any = None,
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
    adapter: str | Adapter | None = "auto",
    replay: bool = True,
) -> FeedbackLoop:
    """Attach feedback from ``discriminator`` to ``generator``; neither is changed.

    Example:
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
            :class:`~fbwrap.Link`.
        module: the kind of feedback module for links that name none: ``"basic"``, ``"dual"``,
            ``"light"``, ``"pyramid"``, ``"ast"``, ``"film"``, ``"concat"``, ``"add"``, a dict with options, or a
            class. None: the adapter's with ``layers="auto"``, else ``"dual"``.
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
        critic_mode: ``"eval"``: D runs in eval mode in the loop. ``"inherit"``: in the mode it is in.
        detach_signals: whether D's features carry no gradient (as in the AFL authors' code).
        method: the method of G that generates, if it is not calling it: ``"decode"`` of a VAE.
        value_range: of G's samples, for critics made by name.
        critic_size: an attribute of D that holds the only height that D takes, though the layers that are
            linked take any (BasicSR's VGG style: ``"input_size"``): while D is looked at, it holds the sample's.
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
    return attached(
        *(generator, discriminator, layers),
        module=module,
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
        adapter=adapter,
        replay=replay,
    )


@outside_inference_mode()
def attached(
    generator: Any,
    discriminator: nn.Module | str | None,
    layers: Layers,
    *,
    example: Any,
    critic_input: str | CriticInput | None,
    response: str | Callable[[Any], Tensor] | None,
    steps: int | None,
    strength: float | Tensor,
    first: Literal["base", "zeros"] | None,
    critic_mode: Literal["eval", "inherit"],
    detach_signals: bool,
    method: str | None,
    critic_size: str | None,
    adapter: str | Adapter | None,
    module: Any = None,
    value_range: tuple[float, float] | None = None,
    replay: bool = True,
    expected: Mapping[str, tuple[int, ...]] | None = None,
) -> FeedbackLoop:
    """As :func:`attach`.

    Args:
        expected: shapes of the modules' weights, by name: others are refused before memory is taken for them.
    """
    generator, base = held(generator)
    if not isinstance(generator, nn.Module):
        raise SettingError(f"generator={generator!r} is not a torch.nn.Module.")
    if not isinstance(discriminator, nn.Module | str | None):
        raise SettingError(f"discriminator={discriminator!r} is not a torch.nn.Module.")
    if critic_mode not in ("eval", "inherit"):
        raise SettingError(f"critic_mode={critic_mode!r}: pass 'eval' or 'inherit'.")
    if first not in (None, "base", "zeros"):
        raise SettingError(f"first={first!r}: pass 'base' (AFL), 'zeros' (FAL) or None.")
    check_loaded("G", generator)
    if isinstance(discriminator, nn.Module):
        check_loaded("D", discriminator)
    known = Recognised(generator, None if isinstance(discriminator, str) else discriminator, adapter)
    if not isinstance(discriminator, str):
        known.check()
    auto, spec = is_auto(layers), None
    args, kwargs = usable(_inputs(example, known))
    made = _look_at_generator(generator, args, kwargs, _method(generator, method or known.method), example is None)
    if isinstance(discriminator, str):
        spec = (discriminator, value_range or known.value_range(made))
        discriminator = build_critic(*spec).to(device_of(unwrap(generator)))
        known = Recognised(generator, discriminator, adapter)
        known.check()
    critic_size = critic_size or known.size
    image = image_of(made.output)
    preset, ask = critic_input_of(known.critic_input(made) if critic_input is None else critic_input)
    response = known.response if response is None else response
    asked = None
    if discriminator is not None:
        asked = _look_at_critic(discriminator, ask, made.output, args, kwargs, critic_size)
    kind = spec_of(module if module is not None else known.module if auto else "dual")
    axes = Axes(generator, discriminator, made, asked, ask, (args, kwargs))
    resolver = Resolver(made, asked, image, response, kind, known, axes)
    connections = sorted(
        (c for link in resolver.links(layers) for c in resolver.connect(link)),
        key=lambda c: event(made, c.site),
    )
    if discriminator is None and any(s.name != "image" for c in connections for s in c.sources):
        raise PairingError("Without a discriminator every link's source must be 'image'.")
    _refuse_two_carried(connections)
    if expected is not None:
        _check_shapes(connections, expected)
    modules = [_build(connection, made) for connection in connections]
    if first is None:
        fal = all(issubclass(c.spec.default, Transform) for c in connections)
        first = "zeros" if fal else "base"
    sites = [connection.site for connection in connections]
    run = entry(generator, made.method)
    prefix = _prefix(made, sites, run, (args, kwargs)) if replay else Schedule()
    plan = plan_of(
        made, asked, connections, modules, first, prefix, image.shape[made.batch.axis], known, resolver.notes
    )
    unused = unused_layers(asked, connections)
    unclear = _unclear_response(asked, response)
    if unclear:
        logger.warning("%s Feedback works without; training and rollout.responses do not.", unclear)
    facts = {
        "critic_input": preset,
        "response": response if isinstance(response, str) else None,
        "own_response": callable(response),
        "unclear_response": unclear,
        "example": (args, kwargs),
        "fingerprints": {
            "generator": fingerprint(generator, moving=names_of_places(made.model, made.moving)),
            "discriminator": _fingerprint_of_critic(discriminator, unused, asked),
        },
        "adapter": known.facts(made),
        "critic_spec": spec,
        "base": base,
        "critic_size": critic_size,
        "critic_unused": unused,
    }
    made.output = None
    if asked:
        asked.output = None
    return FeedbackLoop(
        generator,
        discriminator,
        connections,
        modules,
        plan,
        (made, asked),
        prefix,
        critic_input=ask,
        response=response,
        critic_size=critic_size,
        first=first,
        critic_mode=critic_mode,
        detach_signals=detach_signals,
        steps=steps if steps is not None else known.steps if auto and module is None else 1,
        strength=strength,
        replay=replay,
        facts=facts,
    )


def _fingerprint_of_critic(
    critic: nn.Module | None, unused: Sequence[str] | None, asked: Trace | None
) -> dict[str, Any] | None:
    if critic is None or asked is None:
        return None
    return fingerprint(critic, unused, names_of_places(asked.model, asked.moving))


def _prefix(
    made: Trace, sites: Sequence[Site], run: Callable[..., Any], example: tuple[tuple[Any, ...], dict[str, Any]]
) -> Schedule:
    """What later passes leave out, proven on the example in eval mode."""
    modules = modules_of(made.model)
    with locked(made.model), bare(made.model), eager(modules), training_mode(modules, False):
        return proven(schedule(made, sites), sites, made, run, Snapshot(modules, made.moving), example)


def _inputs(example: Any, known: Recognised) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return inputs_of(known.example() if example is None else example)


def _method(generator: nn.Module, name: str) -> str:
    net = unwrap(generator)
    if name != "forward" and (hasattr(nn.Module, name) or name.startswith("_")):
        raise SettingError(f"method={name!r} belongs to every module, and generates nothing.")
    if not callable(getattr(net, name, None)):
        raise SettingError(f"method={name!r}: {type(net).__name__} has no such method.")
    return name


def inputs_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as positional and keyword inputs."""
    if example is None:
        raise ExampleError(
            "attach needs example=: inputs of G, run once to learn shapes and call order, and no adapter knows "
            "them (fbwrap.explain(G, D) says why). Pass a tensor (example=torch.randn(1, 100, 1, 1)), a tuple of "
            "positional inputs, or a dict of keyword inputs."
        )
    if isinstance(example, dict):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple) else ((example,), {})


def _look_at_generator(
    net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], method: str, adapted: bool
) -> Trace:
    try:
        trace = look(net, args, kwargs, method=method)
    except FbwrapError:
        raise
    except Exception as error:
        shapes = [tuple(tensor.shape) for _, tensor in tensors((args, kwargs))]
        whose = "the adapter's example" if adapted else "the example"
        how = "" if method == "forward" else f" in its method {method!r} (method='forward' if G is to be called)"
        if lacks := without_forward(net, method):
            raise ExampleError(f"{lacks} fbwrap.attach(..., method=NAME).") from error
        raise ExampleError(
            f"The generator refuses {whose}{how} (tensors of shape {shapes}): {type(error).__name__}: "
            f"{error}. Pass in example= what G is called with, on G's device."
        ) from error
    if not torch.isfinite(image_of(trace.output)).all():
        raise ExampleError("The generator returns NaN or infinity for the example. Check its weights.")
    return trace


def _unclear_response(asked: Trace | None, response: str | Callable[[Any], Tensor] | None) -> str | None:
    """Why it is not clear which of D's outputs is its response, if so."""
    if asked is None or asked.error is not None:
        return None
    try:
        response_of(asked.output, response)
    except CriticError as error:
        return str(error)
    return None


def _look_at_critic(
    critic: nn.Module, ask: CriticInput, output: Any, args: tuple[Any, ...], kwargs: dict[str, Any], size: str | None
) -> Trace:
    try:
        given = ask(output, *args, **kwargs)
    except Exception as error:
        raise CriticError(
            f"critic_input failed on the example: {type(error).__name__}: {error}. It is called as "
            "critic_input(G's output, *G's inputs)."
        ) from error
    with locked(unwrap(critic)), sized(unwrap(critic), size, given):
        trace: Trace = call(lambda *a, **k: look(critic, a, k, may_fail=True), given)
    shapes = [tuple(tensor.shape) for _, tensor in tensors(given)]
    if trace.error and not any(c.done and any(i.is_feature for i in c.outputs.values()) for c in trace.calls):
        raise CriticError(
            f"D refuses G's output (shapes {shapes}): {type(trace.error).__name__}: {trace.error}. Say "
            "with critic_input= what D is called with."
        ) from trace.error
    for _, tensor in tensors(trace.output):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CriticError(
                "D answers NaN or infinity to G's output for the example. Check D's weights, and that "
                "G's value range is the one D was trained on."
            )
    return trace


def _refuse_two_carried(connections: Sequence[Connection]) -> None:
    places = [(c.target, c.at) for c in connections if c.carry]
    for target, at in places:
        if places.count((target, at)) > 1:
            raise PairingError(
                f"Two carried links correct the {at} of {str(target)!r}: each would carry on from the other's "
                "feature. Give one link both sources, or pass carry=False for one of them."
            )


def _check_shapes(connections: Sequence[Connection], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse links whose modules have other weights than they should; modules of somebody's own are not asked."""
    if any(connection.spec.factory is not None for connection in connections):
        return
    with torch.device("meta"):
        made = nn.ModuleList(build(c.spec, c.form, tuple(s.form for s in c.sources)) for c in connections)
    shapes = {key: tuple(tensor.shape) for key, tensor in made.state_dict().items()}
    if shapes != dict(expected):
        differ = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
        raise SettingError(
            f"The weights do not fit the links' modules: {differ[0][:100]} is {expected.get(differ[0], 'missing')}, "
            f"and should be {shapes.get(differ[0], 'missing')}."
        )


def _build(connection: Connection, made: Trace) -> nn.Module:
    module = build(connection.spec, connection.form, tuple(s.form for s in connection.sources))
    call = made.calls_of(connection.site.module)[connection.site.call]
    infos = call.outputs if connection.at == "output" else call.inputs
    info = infos[connection.site.path]
    dtype = torch.float64 if info.dtype == torch.float64 else torch.float32
    return module.to(device=info.device, dtype=dtype)
