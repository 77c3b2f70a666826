"""The command that trains: ``train``.

Examples:
    $ fbwrap train celeba_dcgan --data img_align_celeba --set head.batch=64
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap.errors import SettingError

from .command import Answer, WrongUsageError, command
from .devices import device_of

app = typer.Typer()


def names(start: str) -> list[str]:
    """Experiments whose name begins so, for the shell's completion."""
    from fbwrap.recipes.experiments import EXPERIMENTS

    return [name for name in EXPERIMENTS if name.startswith(start)]


@command(app)
def train(
    name: Annotated[
        str, typer.Argument(help="Name of an experiment. A wrong name lists all of them.", autocompletion=names)
    ],
    data: Annotated[Path | None, typer.Option(help="Folder or file with the data.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints, pictures and the head.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting, KEY=VALUE: steps=100, width=32, head.lr=1e-4. Can be given several times."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option(help="A run of a few seconds, to check the set-up.")] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Start from the beginning, or resume from the folder (the default)."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, mps. Under torchrun each process takes its own GPU.")
    ] = "auto",
    tracker: Annotated[
        str | None, typer.Option(help="tensorboard, wandb, or another tracker that accelerate supports.")
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(help="Network of the perceptual loss: torchvision.models:vgg19(weights='DEFAULT')."),
    ] = None,
    perceptual_weights: Annotated[Path | None, typer.Option(help="File with its weights.")] = None,
    perceptual_layer: Annotated[
        list[str] | None, typer.Option(help="Its layer: features.34 for ESRGAN. Can be given several times.")
    ] = None,
) -> Answer:
    """Run one of the papers' experiments.

    Example: fbwrap train celeba_dcgan --data img_align_celeba --set head.batch=64
    """
    from fbwrap.recipes.experiments import run

    config = experiment(name, smoke, settings)
    folder, device = out or Path("runs") / name, device_of(device)
    loss = _perceptual(config, perceptual, perceptual_weights, perceptual_layer or [])
    more: dict[str, Any] = {"trackers": tracker, "device": device, "seed": seed}
    more["perceptual"] = loss.to(device) if loss else None
    _, fit = run(config, data, folder, resume=not fresh, **more)
    summary = {"steps": fit.steps, "seconds": fit.seconds, "trained": fit.trained, "head": str(folder / "head")}
    none = "" if fit.trained else "Nothing was trained: the run had ended. "
    return Answer(
        f"{none}{fit.steps} steps, {fit.seconds:.0f} s. The head: {folder / 'head'}, with the weights of its G beside "
        f"it (--weights {folder / 'head' / 'generator.safetensors'}).",
        summary,
    )


def _perceptual(config: Any, spec: str | None, weights: Path | None, layers: list[str]) -> Any:
    """The perceptual loss in a backbone's layers; torchvision's and timm's see images as ImageNet's are normalised."""
    if spec is None:
        return None
    if not layers:
        raise SettingError("--perceptual needs --perceptual-layer, the layer whose features are compared.")
    from fbwrap.recipes import Perceptual

    from .models import IMAGENET, load_model, of_imagenet

    mean, std = IMAGENET if of_imagenet(spec) else (None, None)
    span = config.head.get("value_range", (-1.0, 1.0))
    return Perceptual(load_model(spec, weights), layers, value_range=span, mean=mean, std=std)


def experiment(name: str, smoke: bool, settings: list[str] | None) -> Any:
    """An experiment by name, with other settings."""
    from fbwrap.recipes.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        known = "\n".join(f"  {key:<16} {value.about}" for key, value in EXPERIMENTS.items())
        raise WrongUsageError(f"There is no experiment {name!r}. There are:\n{known}")
    pairs = [item.partition("=") for item in settings or []]
    if wrong := [key for key, sign, _ in pairs if not sign]:
        raise SettingError(f"--set {wrong[0]}: write KEY=VALUE.")
    config = EXPERIMENTS[name]
    return (config.small() if smoke else config).changed({key: value for key, _, value in pairs})
