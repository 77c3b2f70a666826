"""The papers' ablations: an experiment trained once per variant, all else alike, and measured with the same inputs.

Examples:
    >>> study = ablation(EXPERIMENTS["celeba_fal"], "photos", "runs/ablation", z, measure)      # doctest: +SKIP
    >>> print(study)                                                                            # doctest: +SKIP

What D is let say: the image alone, the response alone (FAL §5.3). How the feature is corrected: AST, FiLM, concat,
add (FAL's comparison), or AFL's basic and dual modules (§3.2). And no feedback at all, which for FAL is G trained
without it for as many steps, for AFL the G that the heads were attached to.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import fbwrap
from fbwrap.engine.pytree import map_tensors
from fbwrap.errors import SettingError
from fbwrap.feedback.modules import KINDS

from ..experiments import Experiment, networks_of, run, train_without
from .sweeps import Inputs, Measure, Study, generated, in_batches

NONE = "no feedback"
SOURCES = {"image only": ("image",), "response only": ("response",)}
NAMES = {
    "FAL": (NONE, "ast", "film", "concat", "add", *SOURCES),
    "AFL": (NONE, "basic", "dual", *SOURCES),
}


def ablation(
    config: Experiment,
    data: str | Path | None,
    out: str | Path,
    inputs: Inputs,
    measure: Measure,
    variants: Sequence[str] = (),
    **how: Any,
) -> Study:
    """Train and measure each variant; what is trained is kept in ``out`` and not trained again.

    Args:
        inputs, measure: as in :mod:`fbwrap.recipes.studies.sweeps`.
        variants: ``"no feedback"``, ``"image only"``, ``"response only"``, or a kind of feedback module; empty: those
            of :data:`NAMES`, the papers' and for AFL also what D is let say.
        how: as :func:`~fbwrap.recipes.experiments.run` takes it.

    Raises:
        SettingError: a variant that does not exist.
    """
    names = tuple(variants) or NAMES[config.recipe]
    known = (NONE, *SOURCES, *(kind for kind in KINDS if (kind in NAMES["FAL"]) is (config.recipe == "FAL")))
    if wrong := [name for name in names if name not in known]:
        raise SettingError(f"There is no variant {wrong[0]!r} of {config.recipe}. There are {', '.join(known)}.")
    folder, rows = Path(out), []
    inputs = map_tensors(lambda tensor: tensor.to(how.get("device", "cpu")), inputs)
    for name in names:
        place = folder / name.replace(" ", "_")
        if name == NONE:
            G = train_without(config, data, folder, **how)
            samples = in_batches(lambda *part, G=G: [G(*part)], inputs)[-1]
        else:
            loop, _ = run(varied(config, name), data, place, base=folder / "base", **how)
            samples = generated(loop, inputs)[-1]
        rows.append({"variant": name, **measure(samples)})
    return Study("ablation", "variant", tuple(rows))


def varied(config: Experiment, name: str) -> Experiment:
    """The experiment with another source or another kind of module at the same layers of G."""
    if name in KINDS:
        own = config.module if isinstance(config.module, dict) else {}
        return replace(config, module={**own, "kind": name})
    G, D, example = networks_of(config)
    with (
        torch.random.fork_rng(),
        fbwrap.attach(
            *(G, D, config.layers), module=config.module, example=example, critic_input=config.critic_input
        ) as loop,
    ):
        targets = [str(connection.target) for connection in loop.connections]
    return replace(config, layers=[fbwrap.Link(target, SOURCES[name]) for target in targets])
