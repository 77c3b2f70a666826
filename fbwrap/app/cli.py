"""The command ``fbwrap``.

Example:
    $ fbwrap quickstart --out quickstart
"""

import inspect as inspection
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap import __version__, explain
from fbwrap.errors import FbwrapError, SettingError

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """A pretrained GAN's discriminator corrects its generator at test time."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the head and the report.")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each training.", min=1)] = 1000,
    fresh: Annotated[bool, typer.Option(help="Start anew instead of resuming.")] = False,
) -> None:
    """Train a small GAN on bundled digits, give it a feedback head, and report what it brings.

    Example: fbwrap quickstart --out quickstart
    """
    from .quickstart import quickstart as run

    with _in_one_sentence():
        report = run(out, seed=seed, steps=steps, fresh=fresh)
    typer.echo(report.table)
    typer.echo(f"\nPictures: {report.folder / 'report.png'}   head: {report.folder / 'head'}")


@app.command()
def inspect(
    generator: Annotated[str, typer.Argument(help="package.module:Class(args), file.py:Class(args), spandrel:FILE.")],
    discriminator: Annotated[
        str | None, typer.Option("--discriminator", "-d", help="Likewise, or timm:NAME; without: the image alone.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="G's weights: .safetensors, .pth; nested and prefixed.")] = None,
    critic_weights: Annotated[Path | None, typer.Option(help="D's weights.")] = None,
    example: Annotated[str | None, typer.Option(help="Shapes of G's inputs: 1x100x1x1 or 1x3x64x64,1x10.")] = None,
    link: Annotated[
        list[str] | None, typer.Option("--link", "-l", help="G_LAYER or G_LAYER=D_LAYER; may be repeated.")
    ] = None,
    module: Annotated[str | None, typer.Option(help="Kind of feedback module.")] = None,
    placement: Annotated[str | None, typer.Option(help="Another placement that the adapter knows, by name.")] = None,
    value_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Of G's samples, for timm critics: -1 1.")
    ] = None,
    critic_input: Annotated[str | None, typer.Option(help="Preset: how D is called.")] = None,
    response: Annotated[str | None, typer.Option(help="Path to D's response, such as [0][-1].")] = None,
    method: Annotated[str | None, typer.Option(help="G's method, if it is not called: decode.")] = None,
    layers: Annotated[bool, typer.Option(help="List every layer with its shapes.")] = True,
    why: Annotated[bool, typer.Option(help="Say of every adapter why it did or did not match.")] = False,
) -> None:
    """What fbwrap sees in your networks: layers, what is recognised, links, cost.

    Example: fbwrap inspect "models/dcgan.py:Generator(ngpu=1)" -d "models/dcgan.py:Discriminator(ngpu=1)"
    """
    from .inspect import example_of, report
    from .models import load_model

    with _in_one_sentence():
        critic: Any = discriminator
        if discriminator is not None and not discriminator.startswith("timm:"):
            critic = load_model(discriminator, critic_weights)
        pairs = [tuple(item.split("=", 1)) if "=" in item else item for item in link or []]
        network = load_model(generator, weights)
        if why:  # also where attaching fails
            typer.echo(f"{explain(network, critic if not isinstance(critic, str) else None)}\n")
        text = report(
            network,
            critic,
            example=example_of(example),
            links=pairs or (f"auto:{placement}" if placement else "auto"),
            value_range=value_range,
            module=module,
            layers=layers,
            critic_input=critic_input,
            response=response,
            method=method,
        )
        typer.echo(text)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="An experiment; without a match, the names are listed.")],
    data: Annotated[Path | None, typer.Option(help="Folder or file of its data.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints, pictures and the head.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: steps=100, width=32, head.lr=1e-4; may be repeated.")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="A run in seconds, to see that all is in place.")] = False,
    fresh: Annotated[bool, typer.Option(help="Start anew instead of resuming.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda …")] = "cpu",
    tracker: Annotated[str | None, typer.Option(help="tensorboard, wandb, …: what accelerate knows.")] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(help="A backbone for the perceptual loss: torchvision.models:vgg19(weights='DEFAULT')."),
    ] = None,
    perceptual_weights: Annotated[Path | None, typer.Option(help="Its weights, from a file.")] = None,
    perceptual_layer: Annotated[
        list[str] | None, typer.Option(help="Its layer, features.34 for ESRGAN's; may be repeated.")
    ] = None,
) -> None:
    """Run one of the papers' experiments.

    Example: fbwrap train celeba_dcgan --data img_align_celeba --set head.batch=64
    """
    with _in_one_sentence():
        from fbwrap.recipes.experiments import run

        config = _experiment(name, smoke, settings)
        folder = out or Path("runs") / name
        loss = _perceptual(config, perceptual, perceptual_weights, perceptual_layer or [])
        more: dict[str, Any] = {"trackers": tracker, "device": device, "seed": seed}
        more["perceptual"] = loss.to(device) if loss else None
        _, fit = run(config, data, folder, resume=not fresh, **more)
        typer.echo(f"{fit.steps} steps, {fit.seconds:.0f} s. The head: {folder / 'head'}")


def _perceptual(config: Any, spec: str | None, weights: Path | None, layers: list[str]) -> Any:
    """The perceptual loss in a backbone's layers; torchvision's and timm's see images as ImageNet's are normalised."""
    if spec is None:
        return None
    if not layers:
        raise SettingError("--perceptual wants --perceptual-layer: where in the backbone images are compared.")
    from fbwrap.recipes import Perceptual

    from .models import load_model

    imagenet = spec.startswith(("torchvision", "timm"))
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if imagenet else (None, None)
    span = config.head.get("value_range", (-1.0, 1.0))
    return Perceptual(load_model(spec, weights), layers, value_range=span, mean=mean, std=std)


def _experiment(name: str, smoke: bool, settings: list[str] | None) -> Any:
    """An experiment by name, with other settings."""
    from fbwrap.recipes.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        known = "\n".join(f"  {key:<16} {value.about}" for key, value in EXPERIMENTS.items())
        raise SettingError(f"There is no experiment {name!r}. There are:\n{known}")
    pairs = [item.partition("=") for item in settings or []]
    if wrong := [key for key, sign, _ in pairs if not sign]:
        raise SettingError(f"--set {wrong[0]}: write KEY=VALUE.")
    config = EXPERIMENTS[name]
    return (config.small() if smoke else config).changed({key: value for key, _, value in pairs})


_Spec = Annotated[str, typer.Option("--generator", "-g", help="package.module:Class(args), file.py:Class(args).")]
_Head = Annotated[Path, typer.Argument(help="Folder of the head.")]
_Latent = Annotated[str | None, typer.Option(help="Shape of one latent, if G makes samples of noise: 100x1x1.")]
_Pairs = Annotated[str | None, typer.Option(help="KIND:PATH, if G maps images: right:facades/val, sr:photos, left:, "
                                            "folders:IN,OUT, cityscapes:, nyu:.")]  # fmt: skip
_Discriminator = Annotated[str | None, typer.Option("--discriminator", "-d", help="Likewise.")]
_Weights = Annotated[Path | None, typer.Option(help="G's weights.")]
_CriticWeights = Annotated[Path | None, typer.Option(help="D's weights.")]
_Features = Annotated[str | None, typer.Option(help="A model whose output is the feature space, or inception.")]
_FeaturesWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Real = Annotated[Path | None, typer.Option(help="Folder of real images, or a file of voxels.")]
_Packed = Annotated[bool, typer.Option(help="Voxels hold eight to a byte.")]
_Classifier = Annotated[
    str | None, typer.Option(help="A model whose classes give an Inception score, and with --label an accuracy.")
]
_ClassifierWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Label = Annotated[int | None, typer.Option(help="The class that samples should be of.")]
_Segmenter = Annotated[
    str | None, typer.Option(help="A model of classes (N, C, H, W); what it reads in the targets is the truth.")
]
_SegmenterWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Depth = Annotated[str | None, typer.Option(help="A model of depths; what it reads in the targets is the truth.")]
_DepthWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Lpips = Annotated[bool, typer.Option("--lpips", help="With pairs: LPIPS too (its weights are downloaded once).")]
_Niqe = Annotated[bool, typer.Option("--niqe", help="NIQE too, of images with room for two blocks of 96x96.")]
_Pi = Annotated[bool, typer.Option("--pi", help="PI too, if pyiqa is installed.")]
_Range = Annotated[tuple[float, float] | None, typer.Option(help="Of G's samples; -1 1, for sr: 0 1.")]
_Steps = Annotated[int | None, typer.Option(help="For beyond, fooling and response: how many.", min=1)]
_Device = Annotated[str, typer.Option(help="cpu, cuda …")]
_Size = Annotated[int, typer.Option(help="Side of images.")]
_Samples = Annotated[int, typer.Option(help="How many.", min=2)]
_Seed = Annotated[int, typer.Option(help="Of the latents.")]
_Out = Annotated[Path | None, typer.Option(help="Folder for the CSV and the plot.")]
_READERS = ("features", "classifier", "segmenter", "depth")


def _readers(given: dict[str, Any]) -> dict[str, Any]:
    """The models that samples are measured with."""
    from .models import load_model

    named = {key: given[key] for key in _READERS if given.get(key)}
    if named.get("features") == "inception":
        named.pop("features")
    return {key: load_model(spec, given.get(f"{key}_weights")) for key, spec in named.items()}


def _loop_of(head: Path, given: dict[str, Any], device: str = "cpu") -> Any:
    """A head on the networks that are named."""
    from fbwrap import from_pretrained

    from .models import load_model

    critic = load_model(given["discriminator"], given["critic_weights"]) if given["discriminator"] else None
    generator = load_model(given["generator"], given["weights"]).to(device)
    return from_pretrained(head, generator, critic.to(device) if critic else None)


def _measured(study: str, head: Path, **given: Any) -> None:
    from .study import STUDIES, inputs_of, measure_of

    with _in_one_sentence():
        if study not in STUDIES:
            raise SettingError(f"There is no study {study!r}. There are {', '.join(STUDIES)}.")
        if given.get("reference") and study != "switching":
            raise SettingError("--reference is for the study switching: the picture that D looks at there.")
        if bool(given["latent"]) is bool(given["pairs"]):
            raise SettingError("Pass --latent SHAPE or --pairs KIND:PATH: what G's inputs are.")
        loop = _loop_of(head, given, given["device"])
        inputs, targets = inputs_of(given)
        measure = measure_of(given, _readers(given), targets)
        found = STUDIES[study](loop, inputs.to(given["device"]), measure, given)
        path = found.save(given["out"] or Path(head) / "studies")
        typer.echo(f"{found}\n\n{path}")


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="strength, modules, controls, switching, variance, beyond, fooling, response.")
    ],
    head: _Head,
    generator: _Spec,
    latent: _Latent = None,
    pairs: _Pairs = None,
    discriminator: _Discriminator = None,
    weights: _Weights = None,
    critic_weights: _CriticWeights = None,
    features: _Features = None,
    features_weights: _FeaturesWeights = None,
    real: _Real = None,
    packed: _Packed = False,
    classifier: _Classifier = None,
    classifier_weights: _ClassifierWeights = None,
    label: _Label = None,
    segmenter: _Segmenter = None,
    segmenter_weights: _SegmenterWeights = None,
    depth: _Depth = None,
    depth_weights: _DepthWeights = None,
    lpips: _Lpips = False,
    niqe: _Niqe = False,
    pi: _Pi = False,
    value_range: _Range = None,
    steps: _Steps = None,
    device: _Device = "cpu",
    reference: Annotated[Path | None, typer.Option(help="For switching: the picture that D looks at.")] = None,
    size: _Size = 64,
    samples: _Samples = 1000,
    seed: _Seed = 0,
    out: _Out = None,
) -> None:
    """One of the papers' studies of a head: a table, a CSV and a plot.

    Example: fbwrap study controls head -g nets.py:G -d nets.py:D --latent 100x1x1
    """
    given = locals()
    _measured(given.pop("name"), **given)


def _with_options_of(command: Callable[..., None], without: set[str]) -> Callable[[Callable[..., None]], Any]:
    """A command that takes what another one does, but for some."""

    def taking(function: Callable[..., None]) -> Any:
        signature = inspection.signature(command)
        kept = {name: each for name, each in signature.parameters.items() if name not in without}
        function.__signature__ = signature.replace(parameters=list(kept.values()))  # type: ignore[attr-defined]
        function.__annotations__ = {name: each.annotation for name, each in kept.items()}
        return function

    return taking


@app.command(name="eval")
@_with_options_of(study, without={"name", "reference", "steps"})
def evaluate(**given: Any) -> None:
    """Measure the base and each step of a head.

    Example: fbwrap eval head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
    """
    _measured("eval", **given)


@app.command()
def ablate(
    name: Annotated[str, typer.Argument(help="An experiment of fbwrap train.")],
    data: Annotated[Path | None, typer.Option(help="Folder or file of its data.")] = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="One of the paper's; may be repeated: film, 'image only' …")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for all runs, the CSV and the plot.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As in fbwrap train.")] = None,
    smoke: Annotated[bool, typer.Option(help="Runs in seconds, to see that all is in place.")] = False,
    features: _Features = None,
    features_weights: _FeaturesWeights = None,
    real: _Real = None,
    packed: _Packed = False,
    classifier: _Classifier = None,
    classifier_weights: _ClassifierWeights = None,
    label: _Label = None,
    pairs: _Pairs = None,
    segmenter: _Segmenter = None,
    segmenter_weights: _SegmenterWeights = None,
    depth: _Depth = None,
    depth_weights: _DepthWeights = None,
    lpips: _Lpips = False,
    value_range: _Range = None,
    device: _Device = "cpu",
    samples: _Samples = 1000,
    seed: _Seed = 0,
) -> None:
    """The papers' ablation of an experiment: each variant trained and measured alike.

    Example: fbwrap ablate celeba_fal --data photos --real photos --features nets.py:Extractor
    """
    given = locals()
    with _in_one_sentence():
        from fbwrap.recipes.ablation import ablation

        from .study import inputs_of, measure_of

        config = _experiment(name, smoke, settings)
        folder = out or Path("runs") / f"{name}_ablation"
        side = config.size if isinstance(config.size, int) else config.size[0]
        if bool(config.latent) is bool(pairs):
            raise SettingError(
                f"{name} makes samples of noise: leave out --pairs." if pairs else
                f"{name} makes images of images: pass --pairs KIND:PATH, what the variants are measured on."
            )  # fmt: skip
        given |= {"size": side, "value_range": value_range or config.head.get("value_range")}
        given["latent"] = "x".join(map(str, config.latent(config))) if config.latent else None
        inputs, targets = inputs_of(given)
        measure = measure_of(given, _readers(given), targets)
        found = ablation(config, data, folder, inputs, measure, variants or (), seed=seed, device=device)
        path = found.save(folder)
        typer.echo(f"{found}\n\n{path}")


@app.command()
def push(
    head: _Head,
    repo: Annotated[str, typer.Argument(help="user/name.")],
    generator: _Spec,
    discriminator: _Discriminator = None,
    weights: _Weights = None,
    critic_weights: _CriticWeights = None,
    private: Annotated[bool | None, typer.Option(help="If the repository is new: whether it is private.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch.")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="As a pull request.")] = False,
    dtype: Annotated[str | None, typer.Option(help="fp16 or bf16: at half the size, rounded.")] = None,
    license: Annotated[str | None, typer.Option(help="For the card: mit, apache-2.0 …")] = None,
    base_model: Annotated[str | None, typer.Option(help="For the card: user/name of the generator.")] = None,
) -> None:
    """Push a head to the Hugging Face Hub (log in with hf auth login, or set HF_TOKEN).

    Example: fbwrap push runs/faces/head me/faces-feedback -g nets.py:G -d nets.py:D --weights g.pth
    """
    given = locals()
    with _in_one_sentence():
        loop = _loop_of(head, given)
        about: dict[str, Any] = {"private": private, "revision": revision, "commit_message": message, "dtype": dtype}
        typer.echo(loop.push_to_hub(repo, create_pr=create_pr, license=license, base_model=base_model, **about))


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="user/name.")],
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="From the cache alone.")] = False,
) -> None:
    """Bring a head from the Hugging Face Hub into the cache, and say where it is.

    Example: fbwrap pull me/faces-feedback
    """
    with _in_one_sentence():
        from fbwrap.hub import pull as pulled

        typer.echo(pulled(repo, revision=revision, local_files_only=offline))


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Failures as one clear sentence and exit code 1; Ctrl-C as 130. ``FBWRAP_DEBUG=1``: the traceback."""
    try:
        yield
    except (FbwrapError, OSError) as error:
        if os.environ.get("FBWRAP_DEBUG"):
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        if os.environ.get("FBWRAP_DEBUG"):
            raise
        typer.echo(f"Error: {type(error).__name__}: {error} (FBWRAP_DEBUG=1 shows where)", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on where it was.", err=True)
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line: exit code 0 done, 2 wrong usage, 1 a failure in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
