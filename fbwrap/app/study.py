"""``fbwrap study``, ``fbwrap eval`` and ``fbwrap ablate``: a head measured, with the base and the controls beside it.

Examples:
    $ fbwrap study controls head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbwrap import FeedbackLoop
from fbwrap.errors import FbwrapError, SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.recipes import studies
from fbwrap.recipes.data import layouts, sources, voxels
from fbwrap.recipes.metrics import Space, accuracy, features, inception, inception_score, quality
from fbwrap.recipes.studies import maps
from fbwrap.recipes.studies.samplers import samplers as sampler_study

from .held_out import held_out, some_of
from .options import InputOptions, MeasureOptions, StudyOptions

logger = logging.getLogger("fbwrap")
Study = Callable[[FeedbackLoop, studies.Inputs, studies.Measure, InputOptions, StudyOptions], studies.Study]
STUDIES: dict[str, Study] = {
    "strength": lambda loop, z, measure, inputs, how: studies.strength_sweep(loop, z, measure, **_at(how, "strengths")),
    "modules": lambda loop, z, measure, inputs, how: studies.one_at_a_time(loop, z, measure),
    "controls": lambda loop, z, measure, inputs, how: studies.controls(loop, z, measure),
    "switching": lambda loop, z, measure, inputs, how: switched(
        loop, z, measure, how.reference, inputs.resolved_range, **_at(how, "strengths")
    ),
    "variance": lambda loop, z, measure, inputs, how: studies.latent_variance(
        loop, _latents(z, inputs), measure, **_at(how, "variances")
    ),
    "steps": lambda loop, z, measure, inputs, how: studies.more_steps(loop, z, measure, how.steps or 8),
    "fooling": lambda loop, z, measure, inputs, how: studies.fooling(loop, z, how.steps or 3),
    "response": lambda loop, z, measure, inputs, how: maps.response_maps(
        loop, studies.first(z, 6), how.steps or 3, inputs.resolved_range
    ),
    "eval": lambda loop, z, measure, inputs, how: evaluated(loop, z, measure),
}
PAIRS: dict[str, Callable[..., Any]] = {
    "left": lambda where, size, **span: sources.SideBySide(where, size, inputs="left", **span),
    "right": lambda where, size, **span: sources.SideBySide(where, size, inputs="right", **span),
    "folders": lambda where, size, **span: sources.PairedFolders(*_two(where), size=size, **span),
    "sr": lambda where, size, **span: sources.SuperResolution(where, 4, size // 4 * 4, flip=False, **span),
    "cityscapes": lambda where, size, **span: layouts.cityscapes(where, (size, 2 * size), "val", **span),
    "nyu": lambda where, size, **span: _nyu(where, size, **span),
}


def latents_of(text: str, samples: int, seed: int) -> Tensor:
    """Seeded normal noise: ``"100x1x1"`` for each sample."""
    try:
        shape = [int(number) for number in text.split("x")]
    except ValueError:
        raise SettingError(f"--latent {text!r}: write the shape of one latent, such as 100x1x1 or 128.") from None
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(options: InputOptions) -> tuple[Tensor, Tensor | None]:
    """G's inputs as the command line names them; and targets, where they are pairs."""
    if options.pairs:
        return pairs_of(options.pairs, options.size, options.samples, options.resolved_range)
    return latents_of(options.latent or "", options.samples, options.seed), None


def pair_source(text: str, size: int, span: tuple[float, float]) -> Any:
    """The dataset of pairs that ``KIND:PATH`` names."""
    kind, _, where = text.partition(":")
    if kind not in PAIRS or not where:
        raise SettingError(f"{text!r}: write KIND:PATH, KIND one of {', '.join(PAIRS)}.")
    return PAIRS[kind](where, size, value_range=span)


def pairs_of(text: str, size: int, samples: int, span: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Inputs and targets from ``KIND:PATH``: ``right:facades/val`` (the input is the right half), ``left:…``,
    ``folders:inputs,targets``, ``sr:photos`` (x4), ``cityscapes:…``, ``nyu:…``."""
    held = pair_source(text, size, span)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of random crops
        rows = [held[i] for i in range(min(samples, len(held)))]
    inputs, targets = (torch.stack(side) for side in zip(*rows, strict=True))
    return inputs, targets


def truths_of(inputs: InputOptions, measures: MeasureOptions) -> dict[str, Tensor]:
    """What ``--pairs`` are known to show, by who is to read it: of Cityscapes the classes, where its ``labelIds`` are
    there; of NYU the depth in metres."""
    kind, _, where = (inputs.pairs or "").partition(":")
    many, found = range(inputs.samples), {}
    if kind == "cityscapes" and measures.segmenter:
        classes = layouts.CityscapesClasses(where, (inputs.size, 2 * inputs.size))
        found["segmenter"] = [classes[i] for i in many[: len(classes)]]
    if kind == "nyu" and measures.depth:
        rooms = _nyu(where, inputs.size)
        found["depth"] = [rooms.metres(i) for i in many[: len(rooms)]]
    return {reader: torch.stack(rows) for reader, rows in found.items() if rows}


def _nyu(where: str, size: int, **span: Any) -> layouts.NYU:
    """Labels and depth, as FAL has it; where there are no labels, depth."""
    conditions = [name for name in ("labels", "depth") if (Path(where) / "val" / name).is_dir()]
    return layouts.NYU(where, (3 * size // 4, size), "val", conditions=conditions or ("labels", "depth"), **span)


def _two(where: str) -> tuple[str, str]:
    inputs, comma, targets = where.partition(",")
    if not comma:
        raise SettingError(f"--pairs folders:{where}: write two folders with a comma between them.")
    return inputs, targets


def measure_of(
    inputs: InputOptions,
    measures: MeasureOptions,
    models: dict[str, nn.Module],
    targets: Tensor | None = None,
    truths: dict[str, Tensor] | None = None,
) -> studies.Measure:
    """All that was asked for, of samples: their distance to real ones in a feature space, how near they are to what
    they should be, what a classifier, a segmentation or a depth network reads in them; if nothing, mean and spread."""
    _partners(measures, targets)
    parts: list[studies.Measure] = []
    known, span = truths or {}, inputs.resolved_range
    if measures.real is not None and measures.features is not None:
        inceptions = measures.features == "inception"
        space = inception(span) if inceptions else Space(measures.features, models["features"])
        parts.append(_distances(space, measures.real, measures.packed, inputs))
    if targets is not None:
        parts.append(lambda y: quality.image_quality(y, targets, span))
        if measures.lpips:
            parts.append(lambda y: {"lpips": quality.lpips(y, targets, span)})
    if measures.niqe:
        parts.append(lambda y: {"niqe": quality.niqe(y, span)})
    if measures.pi:
        parts.append(lambda y: {"pi": quality.perceptual_index(y, span)})
    if measures.classifier:
        parts.append(_classified(models["classifier"], measures.classifier, measures.label))
    if measures.segmenter and targets is not None:
        parts.append(_segmented(models["segmenter"], targets, measures.segmenter, known.get("segmenter")))
    if measures.depth and targets is not None:
        parts.append(_depths(models["depth"], targets, measures.depth, known.get("depth")))
    if not parts:
        return lambda y: {"mean": float(y.mean()), "std": float(y.std())}
    return lambda y: {key: value for part in parts for key, value in part(y).items()}


def _partners(measures: MeasureOptions, targets: Tensor | None) -> None:
    """Options that mean nothing without another."""
    if (measures.features is None) is not (measures.real is None):
        raise SettingError("Pass both --features and --real, or neither: they measure the distance to real samples.")
    if measures.label is not None and not measures.classifier:
        raise SettingError("--label needs --classifier, which measures how many samples show this class.")
    compared = {"segmenter": measures.segmenter, "depth": measures.depth, "lpips": measures.lpips}
    for name, given in compared.items():
        if given and targets is None:
            raise SettingError(f"--{name} needs --pairs: it compares samples with the targets.")


def _distances(space: Space, where: Path, packed: bool, inputs: InputOptions) -> studies.Measure:
    if not where.exists():
        raise SettingError(f"--real {where}: there is no such file or folder.")
    if any(path.suffix.lower() in voxels.CUBES for path in (where.rglob("*") if where.is_dir() else [where])):
        cubes = voxels.Voxels(where, packed=packed)
        real = _some(cubes, inputs.samples)
        return lambda y: space.distances(y, real)
    cache: dict[tuple[int, ...], Tensor] = {}

    def measure(y: Tensor) -> dict[str, float]:
        if y.dim() != 4:
            raise SettingError(f"G makes samples of the shape {tuple(y.shape[1:])}, and --real is a folder of images.")
        channels, height, width = y.shape[1:]  # grey samples are compared with grey images, at their own size
        if y.shape[1:] not in cache:
            held = sources.Images(where, (height, width), channels=channels, value_range=inputs.resolved_range)
            cache[y.shape[1:]] = _some(held, inputs.samples)
        return space.distances(y, cache[y.shape[1:]])

    return measure


def _some(held: sources.Source, most: int) -> Tensor:
    return torch.stack([held[at] for at in some_of(len(held), most)])


def _classified(net: nn.Module, name: str, label: int | None) -> studies.Measure:
    """The Inception score's formula with this classifier, and the share of samples that it takes for the label."""

    def measure(y: Tensor) -> dict[str, float]:
        logits = features(net, y, 100)
        found = {f"inception score[{name}]": inception_score(logits)}
        if label is not None:
            found[f"accuracy[{name}]"] = accuracy(lambda each: each, logits, label)
        return found

    return measure


def _segmented(net: nn.Module, targets: Tensor, name: str, truth: Tensor | None) -> studies.Measure:
    """What a network reads in samples, against the truth; where none is known, against what it reads in the targets."""

    def logits(y: Tensor) -> Tensor:
        answer = net(y)  # torchvision's answer is a dict
        return image_of(answer["out"] if isinstance(answer, dict) and "out" in answer else answer)

    @torch.no_grad()
    def read(y: Tensor) -> Tensor:
        return torch.cat([logits(part).argmax(1) for part in y.split(8)])

    with torch.no_grad():
        classes = logits(targets[:1]).shape[1]
    if truth is not None and classes != 19:
        logger.warning(
            "%s has %d classes, Cityscapes scores 19: the truth is what it reads in photographs.", name, classes
        )
        truth = None
    wanted = read(targets) if truth is None else truth

    def measure(y: Tensor) -> dict[str, float]:
        found = read(y)
        scores = quality.segmentation(found, _as_large(wanted, found), classes)
        return {f"{key}[{name}]": value for key, value in scores.items()}

    return measure


def _depths(net: nn.Module, targets: Tensor, name: str, truth: Tensor | None) -> studies.Measure:
    @torch.no_grad()
    def read(y: Tensor) -> Tensor:
        found = torch.cat([net(part) for part in y.split(8)])
        return found[:, 0] if found.dim() == 4 else found

    wanted = read(targets) if truth is None else truth

    def measure(y: Tensor) -> dict[str, float]:
        found = read(y)
        return {f"{key}[{name}]": value for key, value in quality.depth(found, _as_large(wanted, found)).items()}

    return measure


def _as_large(wanted: Tensor, found: Tensor) -> Tensor:
    """The truth at the size at which a network reads, each pixel one of its own."""
    return F.interpolate(wanted[:, None].double(), found.shape[1:])[:, 0].to(wanted.dtype)


def switched(
    loop: FeedbackLoop,
    z: studies.Inputs,
    measure: studies.Measure,
    reference: Path | None,
    span: tuple[float, float],
    **at: Sequence[float],
) -> studies.Study:
    """D looks at a picture, or at the samples of the next inputs."""
    base = _base(loop, z)
    seen = base.roll(1, 0)
    if reference is not None:
        image = sources.picture(reference, base.shape[1])
        seen = sources.spanned(sources.resized(image, (base.shape[2], base.shape[3])), span).expand_as(base)
    return studies.switching(loop, z, seen, measure, **at)


def evaluated(loop: FeedbackLoop, z: studies.Inputs, measure: studies.Measure) -> studies.Study:
    """The base and each step of the head, as it is; and what D says of each, where the head knows all of it."""
    outputs = [_base(loop, z), *studies.generated(loop, z)[1:]]
    try:
        answers = {row.pop("step"): row for row in studies.fooling(loop, z, loop.steps).rows}
    except FbwrapError:
        answers = {}
    rows = [{"step": t, **measure(y), **_of_d(answers.get(t, {}))} for t, y in enumerate(outputs)]
    return studies.Study("eval", "step", tuple(rows))


def samplers_of(
    loop: FeedbackLoop, measure: studies.Measure, inputs: InputOptions, how: StudyOptions, label: int | None
) -> studies.Study:
    """Each sampler beside the head; with ``label`` samples of this class alone."""
    if inputs.latent or inputs.pairs:
        raise SettingError(
            "The study samplers draws G's inputs itself, so it needs a G that takes noise. Leave out --latent and "
            "--pairs."
        )
    real, given = held_out(loop, how.calibrate_on, inputs.resolved_range) if how.calibrate_on else (None, None)
    only = [name.strip() for name in how.only.split(",")] if how.only else None
    return sampler_study(
        loop, measure, real=real, inputs=given, loss=how.loss, count=inputs.samples, seed=inputs.seed, label=label,
        only=only,
    )  # fmt: skip


def _of_d(row: Mapping[str, object]) -> dict[str, object]:
    return {f"D's {key}": value for key, value in row.items()}


def _at(options: StudyOptions, name: str) -> dict[str, Any]:
    """The values of ``--at``, if it was given."""
    if not options.at:
        return {}
    try:
        return {name: tuple(float(number) for number in options.at.split(","))}
    except ValueError:
        raise SettingError(f"--at {options.at}: write numbers with commas between them: 0,0.5,1.") from None


def _latents(z: studies.Inputs, inputs: InputOptions) -> studies.Inputs:
    if inputs.pairs:
        raise SettingError(
            "The study variance scales G's latents, so it needs a G that takes noise. Pass --latent in place of "
            "--pairs."
        )
    return z


def _base(loop: FeedbackLoop, z: studies.Inputs) -> Tensor:
    """G without feedback (y_0 of a FAL loop is zeros)."""
    return studies.generated(loop, z, steps=0)[0]
