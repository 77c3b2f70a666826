"""The commands that measure: ``study``, ``eval``, ``ablate``.

Examples:
    $ fbwrap eval head -g nets.py:G -d nets.py:D --real photos --features nets.py:Extractor
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from torch import Tensor, nn

from fbwrap.errors import SettingError
from fbwrap.heads.config import FEEDBACK
from fbwrap.heads.files import path_of, sha256
from fbwrap.plots import figure_class

from .command import Answer, WrongUsageError, command
from .devices import device_of
from .models import as_trained
from .options import (
    Device,
    Head,
    InputOptions,
    MeasureOptions,
    NetworkOptions,
    Out,
    Pairs,
    Range,
    Samples,
    Seed,
    StudyOptions,
)
from .training import experiment

if TYPE_CHECKING:
    from fbwrap.recipes.studies import Measure, Study

logger = logging.getLogger("fbwrap")
app = typer.Typer()


def _readers(options: MeasureOptions, span: tuple[float, float]) -> dict[str, nn.Module]:
    """The models that samples are measured with."""
    from .models import load_model

    named = {
        "features": (options.features if options.features != "inception" else None, options.features_weights),
        "classifier": (options.classifier, options.classifier_weights),
        "segmenter": (options.segmenter, options.segmenter_weights),
        "depth": (options.depth, options.depth_weights),
    }
    return {
        key: as_trained(load_model(model, weights), model, span) for key, (model, weights) in named.items() if model
    }


def _measured(
    study: str,
    head: str,
    networks: NetworkOptions,
    inputs: InputOptions,
    measures: MeasureOptions,
    options: StudyOptions,
    out: Path | None,
) -> Answer:
    from .inputs import inputs_of_head
    from .study import STUDIES, inputs_of, measure_of, samplers_of, truths_of

    if study == "beyond":
        study = "steps"
        logger.warning("The study beyond is steps now, and so are its files; the old name works until 0.2.")
    if study not in (known := (*STUDIES, "samplers")):
        raise WrongUsageError(f"There is no study {study!r}. There are {', '.join(known)}.")
    figure_class()  # before anything is computed
    if options.at and study not in ("strength", "switching", "variance"):
        raise SettingError("--at is for the studies strength, switching and variance.")
    if study != "samplers" and (options.only or options.calibrate_on or options.loss):
        raise SettingError("--only, --calibrate-on and --loss are for the study samplers.")
    if options.reference and study != "switching":
        raise SettingError("--reference is for the study switching: the picture that D looks at there.")
    if inputs.latent and inputs.pairs:
        raise SettingError("Pass --latent SHAPE or --pairs KIND:PATH, not both: what G's inputs are.")
    loop = networks.loop_of(head)
    given: Tensor | tuple[object, ...]
    targets: Tensor | None = None
    if inputs.latent or inputs.pairs:
        given, targets = inputs_of(inputs)
        given = given.to(device_of(networks.device))
    else:
        given = inputs_of_head(loop, inputs.samples, inputs.seed, measures.label)
    readers = _readers(measures, inputs.resolved_range)
    # the class that samplers draw needs no classifier
    asked = replace(measures, label=None) if study == "samplers" and not measures.classifier else measures
    with counted(measure_of(inputs, asked, readers, targets, truths_of(inputs, measures)), study) as measure:
        if study == "samplers":
            found = samplers_of(loop, measure, inputs, options, measures.label)
        else:
            found = STUDIES[study](loop, given, measure, inputs, options)
    folder = Path(head) if Path(head).is_dir() else Path()
    path = found.save(out or folder / "studies")
    if (weights := path_of(folder, FEEDBACK)).is_file():  # so that push knows which head was measured
        path.with_suffix(".of").write_text(sha256(weights) + "\n")
    return _answer(found, path, {"study": study, "rows": list(found.rows), "csv": str(path)})


def _answer(found: "Study", path: Path, data: dict[str, Any]) -> Answer:
    def pretty() -> Any:
        from .tables import of_study, under

        return under(of_study(found), str(path))

    return Answer(f"{found}\n\n{path}", data, pretty=pretty)


@contextmanager
def counted(measure: "Measure", name: str) -> "Iterator[Measure]":
    """The same measure, each call shown as progress."""
    from tqdm.auto import tqdm

    with tqdm(desc=name, unit=" measured", disable=None, leave=False) as bar:

        def counting(samples: Tensor) -> dict[str, float]:
            found = dict(measure(samples))
            bar.update()
            return found

        yield counting


@command(app)
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="Which study: strength, modules, controls, switching, variance, steps, fooling, response, samplers."
        ),
    ],
    head: Head,
    networks: NetworkOptions,
    inputs: InputOptions,
    measures: MeasureOptions,
    options: StudyOptions,
    out: Out = None,
) -> Answer:
    """Run one of nine studies of a head, and write a table and a plot.

    Example: fbwrap study controls head -g nets.py:G -d nets.py:D --real photos --features nets.py:Extractor
    """
    return _measured(name, head, networks, inputs, measures, options, out)


@command(app, name="eval")
def evaluate(
    head: Head, networks: NetworkOptions, inputs: InputOptions, measures: MeasureOptions, out: Out = None
) -> Answer:
    """Measure G alone, and G with feedback after each step.

    Example: fbwrap eval head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
    """
    return _measured("eval", head, networks, inputs, measures, StudyOptions(), out)


@command(app)
def ablate(
    name: Annotated[str, typer.Argument(help="Name of an experiment of fbwrap train.")],
    data: Annotated[Path | None, typer.Option(help="Folder or file with the data.")] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="A variant of the paper: film, 'image only' … Can be given several times."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for all runs, the table (CSV) and the plot.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting, as in fbwrap train.")] = None,
    smoke: Annotated[bool, typer.Option(help="Runs of a few seconds, to check the set-up.")] = False,
    measures: MeasureOptions = MeasureOptions(),  # noqa: B008 -- frozen
    pairs: Pairs = None,
    value_range: Range = None,
    device: Device = "auto",
    samples: Samples = 1000,
    seed: Seed = 0,
) -> Answer:
    """Train and measure the variants of an experiment that its paper compares.

    Example: fbwrap ablate celeba_fal --data photos --real photos --features nets.py:Extractor
    """
    from fbwrap.recipes.studies.ablation import ablation

    from .study import inputs_of, measure_of, truths_of

    where = device_of(device)
    config = experiment(name, smoke, settings)
    folder = out or Path("runs") / f"{name}_ablation"
    if bool(config.latent) is bool(pairs):
        raise SettingError(
            f"{name} makes samples of noise: leave out --pairs." if pairs else
            f"{name} makes images of images: pass --pairs KIND:PATH, what the variants are measured on."
        )  # fmt: skip
    latent = "x".join(map(str, config.latent(config))) if config.latent else None
    inputs = InputOptions(latent, pairs, config.side, samples, seed, value_range or config.head.get("value_range"))
    given, targets = inputs_of(inputs)
    readers = _readers(measures, inputs.resolved_range)
    measure = measure_of(inputs, measures, readers, targets, truths_of(inputs, measures))
    found = ablation(config, data, folder, given, measure, variants or (), seed=seed, device=where)
    path = found.save(folder)
    return _answer(found, path, {"rows": list(found.rows), "csv": str(path)})
