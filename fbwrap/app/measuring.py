"""The commands that measure: ``study``, ``eval``, ``ablate``.

Examples:
    $ fbwrap eval head -g nets.py:G -d nets.py:D --real photos --features nets.py:Extractor
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap.errors import SettingError
from fbwrap.heads.config import FEEDBACK
from fbwrap.heads.files import path_of, sha256

from .devices import device_of
from .models import as_trained
from .terms import (
    Answer,
    CriticWeights,
    Device,
    Discriminator,
    Generator,
    Head,
    Latent,
    Latents,
    Range,
    Seed,
    Weights,
    WrongUsageError,
    command,
    loop_of,
    with_options_of,
)  # fmt: skip
from .training import experiment

app = typer.Typer()

_Pairs = Annotated[str | None, typer.Option(help="KIND:PATH, if G maps images: right:facades/val, sr:photos, left:, "
                                            "folders:IN,OUT, cityscapes:, nyu:.")]  # fmt: skip
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
    str | None,
    typer.Option(
        help="A model of classes (N, C, H, W), against Cityscapes' labels (its 19 classes); of other pairs against "
        "what it reads in the true photographs."
    ),
]
_SegmenterWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Depth = Annotated[str | None, typer.Option(help="A model of depths, against NYU's in metres; else likewise.")]
_DepthWeights = Annotated[Path | None, typer.Option(help="Its weights.")]
_Lpips = Annotated[bool, typer.Option("--lpips", help="With pairs: LPIPS too (its weights are downloaded once).")]
_Niqe = Annotated[bool, typer.Option("--niqe", help="NIQE too, of images with room for two blocks of 96x96.")]
_Pi = Annotated[bool, typer.Option("--pi", help="PI too, if pyiqa is installed.")]
_Steps = Annotated[int | None, typer.Option(help="For beyond, fooling and response: how many.", min=1)]
_Size = Annotated[int, typer.Option(help="Side of the images of --pairs: of cityscapes the height, of nyu the width.")]
_Samples = Annotated[int, typer.Option(help="How many.", min=2)]
_Out = Annotated[Path | None, typer.Option(help="Folder for the CSV and the plot.")]
_READERS = ("features", "classifier", "segmenter", "depth")


def _readers(given: dict[str, Any]) -> dict[str, Any]:
    """The models that samples are measured with."""
    from .models import load_model
    from .study import value_range

    named = {key: given[key] for key in _READERS if given.get(key)}
    if named.get("features") == "inception":
        named.pop("features")
    loaded = {key: load_model(spec, given.get(f"{key}_weights")) for key, spec in named.items()}
    return {key: as_trained(net, named[key], value_range(given)) for key, net in loaded.items()}


def _measured(study: str, head: str, **given: Any) -> Answer:
    from .inputs import inputs_of_head
    from .study import STUDIES, inputs_of, measure_of, truths_of

    if study not in STUDIES:
        raise WrongUsageError(f"There is no study {study!r}. There are {', '.join(STUDIES)}.")
    if given.get("at") and study not in ("strength", "switching", "variance"):
        raise SettingError("--at is for the studies strength, switching and variance.")
    if given.get("reference") and study != "switching":
        raise SettingError("--reference is for the study switching: the picture that D looks at there.")
    if given["latent"] and given["pairs"]:
        raise SettingError("Pass --latent SHAPE or --pairs KIND:PATH, not both: what G's inputs are.")
    given["device"] = device_of(given["device"])
    loop = loop_of(head, given, given["device"])
    targets: Any = None
    inputs: Any
    if given["latent"] or given["pairs"]:
        inputs, targets = inputs_of(given)
        inputs = inputs.to(given["device"])
    else:
        inputs = inputs_of_head(loop, given["samples"], given["seed"], given["label"])
    with counted(measure_of(given, _readers(given), targets, truths_of(given)), study) as measure:
        found = STUDIES[study](loop, inputs, measure, given)
    folder = Path(head) if Path(head).is_dir() else Path()
    path = found.save(given["out"] or folder / "studies")
    if (weights := path_of(folder, FEEDBACK)).is_file():  # so that push knows which head was measured
        path.with_suffix(".of").write_text(sha256(weights) + "\n")
    return Answer(f"{found}\n\n{path}", {"study": study, "rows": list(found.rows), "csv": str(path)})


@contextmanager
def counted(measure: Callable[[Any], Any], name: str) -> Iterator[Callable[[Any], Any]]:
    """The same measure, each call shown as progress."""
    from tqdm.auto import tqdm

    with tqdm(desc=name, unit=" measured", disable=None, leave=False) as bar:

        def counting(samples: Any) -> Any:
            found = measure(samples)
            bar.update()
            return found

        yield counting


@command(app)
def study(
    name: Annotated[
        str, typer.Argument(help="strength, modules, controls, switching, variance, beyond, fooling, response.")
    ],
    head: Head,
    generator: Generator = None,
    latent: Latent = None,
    pairs: _Pairs = None,
    discriminator: Discriminator = None,
    weights: Weights = None,
    critic_weights: CriticWeights = None,
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
    value_range: Range = None,
    steps: _Steps = None,
    latents: Latents = None,
    device: Device = "auto",
    reference: Annotated[Path | None, typer.Option(help="For switching: the picture that D looks at.")] = None,
    at: Annotated[str | None, typer.Option(help="For strength, switching, variance: values, 0,0.5,1.")] = None,
    size: _Size = 64,
    samples: _Samples = 1000,
    seed: Seed = 0,
    out: _Out = None,
) -> Answer:
    """One of the papers' studies of a head: a table, a CSV and a plot.

    Example: fbwrap study controls head -g nets.py:G -d nets.py:D --latent 100x1x1
    """
    given = locals()
    return _measured(given.pop("name"), **given)


@command(app, name="eval")
@with_options_of(study, without={"name", "reference", "steps", "at"})
def evaluate(**given: Any) -> Answer:
    """Measure the base and each step of a head.

    Example: fbwrap eval head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
    """
    return _measured("eval", **given)


@command(app)
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
    value_range: Range = None,
    device: Device = "auto",
    samples: _Samples = 1000,
    seed: Seed = 0,
) -> Answer:
    """The papers' ablation of an experiment: each variant trained and measured alike.

    Example: fbwrap ablate celeba_fal --data photos --real photos --features nets.py:Extractor
    """
    given = {**locals(), "device": device_of(device)}
    from fbwrap.recipes.ablation import ablation

    from .study import inputs_of, measure_of, truths_of

    config = experiment(name, smoke, settings)
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
    measure = measure_of(given, _readers(given), targets, truths_of(given))
    found = ablation(config, data, folder, inputs, measure, variants or (), seed=seed, device=given["device"])
    path = found.save(folder)
    return Answer(f"{found}\n\n{path}", {"rows": list(found.rows), "csv": str(path)})
