"""``fbwrap study``, ``fbwrap eval`` and ``fbwrap ablate``: a head measured, with the base and the controls beside it.

Example:
    $ fbwrap study controls head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbwrap import FeedbackLoop
from fbwrap.errors import SettingError
from fbwrap.recipes import maps, quality, sources, studies
from fbwrap.recipes.metrics import Space, accuracy, features, inception

STUDIES: dict[str, Callable[[FeedbackLoop, studies.Inputs, studies.Measure], studies.Study]] = {
    "strength": studies.strength_sweep,
    "modules": studies.one_at_a_time,
    "controls": studies.controls,
    "switching": lambda loop, z, measure: switched(loop, z, measure, None),
    "variance": studies.latent_variance,
    "beyond": studies.beyond,
    "fooling": lambda loop, z, measure: studies.fooling(loop, z),
    "response": lambda loop, z, measure: maps.response_maps(loop, studies.first(z, 6)),
}
PAIRS: dict[str, Callable[[str, int], Any]] = {
    "left": lambda where, size: sources.SideBySide(where, size, inputs="left"),
    "right": lambda where, size: sources.SideBySide(where, size, inputs="right"),
    "folders": lambda where, size: sources.PairedFolders(*_two(where), size=size),
    "sr": lambda where, size: sources.SuperResolution(where, 4, size // 4 * 4, flip=False),
    "cityscapes": lambda where, size: sources.cityscapes(where, (size, 2 * size), "val"),
    "nyu": lambda where, size: sources.nyu(where, (3 * size // 4, size), "val"),
}


def latents_of(text: str, samples: int, seed: int) -> Tensor:
    """Seeded normal noise: ``"100x1x1"`` for each sample."""
    try:
        shape = [int(number) for number in text.split("x")]
    except ValueError:
        raise SettingError(f"--latent {text!r}: write the shape of one latent, such as 100x1x1 or 128.") from None
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))


def pairs_of(text: str, size: int, samples: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets from ``KIND:PATH``: ``right:facades/val`` (the input is the right half), ``left:…``,
    ``folders:inputs,targets``, ``sr:photos`` (x4), ``cityscapes:…``, ``nyu:…``."""
    kind, _, where = text.partition(":")
    if kind not in PAIRS or not where:
        raise SettingError(f"--pairs {text!r}: write KIND:PATH, KIND one of {', '.join(PAIRS)}.")
    held = PAIRS[kind](where, size)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of random crops
        rows = [held[i] for i in range(min(samples, len(held)))]
    inputs, targets = (torch.stack(side) for side in zip(*rows, strict=True))
    return inputs, targets


def inputs_of(config: Any, data: Path | None, samples: int, seed: int) -> tuple[studies.Inputs, Tensor | None]:
    """Inputs for an experiment's G, and targets where its data is paired."""
    if config.latent:
        shape = config.latent(config)
        return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed)), None
    held = config.data(data, config).inputs
    rows = [held[i] for i in range(min(samples, len(held)))]
    inputs, targets = (torch.stack(side) for side in zip(*rows, strict=True))
    return inputs, targets


def _two(where: str) -> tuple[str, str]:
    inputs, comma, targets = where.partition(",")
    if not comma:
        raise SettingError(f"--pairs folders:{where}: write two folders with a comma between them.")
    return inputs, targets


def measure_of(
    given: dict[str, Any], models: dict[str, nn.Module | None], targets: Tensor | None = None
) -> studies.Measure:
    """All that was asked for, of samples: their distance to real ones in a feature space, how near they are to what
    they should be, what a classifier, a segmentation or a depth network reads in them; if nothing, mean and spread."""
    parts: list[studies.Measure] = []
    extractor, real = models.get("features"), given.get("real")
    if given.get("features") == "inception" and real is not None:
        parts.append(_distances(inception(), given))
    elif (extractor is None) is not (real is None):
        raise SettingError("--features and --real go together: the distance is that of samples to real ones there.")
    elif extractor is not None:
        parts.append(_distances(Space(given["features"], extractor), given))
    if targets is not None:
        low = 0.0 if float(targets.min()) >= 0 else -1.0
        parts.append(lambda y: quality.image_quality(y, targets, (low, 1.0)))
        if given.get("lpips"):
            parts.append(lambda y: {"lpips": quality.lpips(y, targets, (low, 1.0))})
    if (net := models.get("classifier")) is not None:
        if given.get("label") is None:
            raise SettingError("--classifier wants --label: the class that samples should be of.")
        name, label = given["classifier"], int(given["label"])
        parts.append(lambda y: {f"accuracy[{name}]": accuracy(net, y, label)})
    for key, read in (("segmenter", _segmented), ("depth", _depths)):
        if (reader := models.get(key)) is not None:
            if targets is None:
                raise SettingError(f"--{key} wants --pairs: what it reads in the targets is the truth.")
            parts.append(read(reader, targets, given[key]))
    if not parts:
        return lambda y: {"mean": float(y.mean()), "std": float(y.std())}
    return lambda y: {key: value for part in parts for key, value in part(y).items()}


def _distances(space: Space, given: dict[str, Any]) -> studies.Measure:
    where = given["real"]
    held: sources.Source
    if where.is_file() or where.suffix in (".npz", ".npy"):
        held = sources.Voxels(where, packed=given["packed"])
    else:
        held = sources.Images(where, given["size"])
    real = torch.stack([held[i] for i in range(min(given["samples"], len(held)))])
    return lambda y: space.distances(y, real)


def _segmented(net: nn.Module, targets: Tensor, name: str) -> studies.Measure:
    read = lambda y: torch.cat([net(part).argmax(1) for part in y.split(8)])  # noqa: E731
    with torch.no_grad():
        truth = read(targets)
        classes = net(targets[:1]).shape[1]

    @torch.no_grad()
    def measure(y: Tensor) -> dict[str, float]:
        return {f"{key}[{name}]": value for key, value in quality.segmentation(read(y), truth, classes).items()}

    return measure


def _depths(net: nn.Module, targets: Tensor, name: str) -> studies.Measure:
    truth = features(net, targets, 8)
    return lambda y: {f"{key}[{name}]": value for key, value in quality.depth(features(net, y, 8), truth).items()}


def switched(loop: FeedbackLoop, z: studies.Inputs, measure: studies.Measure, reference: Path | None) -> studies.Study:
    """D looks at a picture, or at the samples of the next inputs."""
    base = _base(loop, z)
    seen = base.roll(1, 0)
    if reference is not None:
        low = 0.0 if float(base.min()) >= 0 else -1.0
        image = sources.picture(reference, base.shape[1])
        seen = sources.spanned(sources.resized(image, (base.shape[2], base.shape[3])), (low, 1.0)).expand_as(base)
    return studies.switching(loop, z, seen, measure)


def evaluated(loop: FeedbackLoop, z: studies.Inputs, measure: studies.Measure) -> studies.Study:
    """The base and each step of the head, as it is."""
    outputs = [_base(loop, z), *studies.generated(loop, z)[1:]]
    return studies.Study("eval", "step", tuple({"step": t, **measure(y)} for t, y in enumerate(outputs)))


def _base(loop: FeedbackLoop, z: studies.Inputs) -> Tensor:
    """G without feedback (y_0 of a FAL loop is zeros)."""
    return studies.generated(loop, z, steps=0)[0]
