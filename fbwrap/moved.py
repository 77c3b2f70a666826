"""Import paths of before the packages had rooms: they work until 0.2, and say where the module is now.

Examples:
    >>> from fbwrap.hub import push_folder                   # doctest: +SKIP
    DeprecationWarning: fbwrap.hub is fbwrap.heads.hub now.
"""

import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

MOVED = {
    "attributes": "engine.attributes", "axes": "feedback.batch_axis", "bases": "recognition.named",
    "card": "heads.card", "checks": "engine.checks", "copies": "engine.copies",
    "corrections": "feedback.corrections", "critic": "feedback.critic", "dice": "engine.rng",
    "example": "heads.example", "export": "feedback.export", "fetching": "files.download",
    "fingerprint": "engine.fingerprint", "flops": "engine.flops", "head": "heads.saving", "headconfig": "heads.config",
    "headfiles": "heads.files", "hosting": "feedback.install", "hub": "heads.hub", "inputs": "heads.inputs",
    "intercept": "engine.intercept", "latents": "feedback.latents", "links": "feedback.links",
    "locks": "engine.locks", "modes": "engine.training_mode", "modules": "feedback.modules",
    "naming": "engine.names", "observer": "feedback.critic_runner", "pairing": "feedback.pairing",
    "plan": "feedback.plan", "planning": "attaching.planning", "plugins": "recognition.plugins",
    "probe": "engine.trace", "proof": "engine.verify", "recognise": "recognition.detect",
    "replay": "engine.replay", "resolve": "attaching.resolve", "rollout": "feedback.rollout",
    "settings": "feedback.settings", "signals": "feedback.features", "spec": "recognition.spec",
    "state": "engine.state", "surroundings": "engine.context", "table": "engine.layer_table",
    "app.terms": "app.command", "trees": "engine.pytree", "unroll": "feedback.unroll",
    "weightsfile": "files.weights_file",
    "recipes.ablation": "recipes.studies.ablation", "recipes.checkpoint": "recipes.training.checkpoint",
    "recipes.checks": "recipes.training.checks", "recipes.ema": "recipes.training.ema",
    "recipes.fit": "recipes.training.fit", "recipes.interrupts": "recipes.training.interrupts",
    "recipes.layouts": "recipes.data.layouts", "recipes.loss_choice": "recipes.training.loss_choice",
    "recipes.losses": "recipes.training.losses", "recipes.maps": "recipes.studies.maps",
    "recipes.options": "recipes.training.options", "recipes.pictures": "recipes.training.pictures",
    "recipes.plain_space": "recipes.metrics.pixel_space", "recipes.processes": "recipes.training.processes",
    "recipes.quality": "recipes.metrics.quality", "recipes.sources": "recipes.data.sources",
    "recipes.spectral": "recipes.training.spectral", "recipes.steps": "recipes.training.steps",
    "recipes.trainer": "recipes.training.trainer", "recipes.voxels": "recipes.data.voxels",
    "recipes.watch": "recipes.training.watch", "recipes.weights": "recipes.training.weights",
}  # fmt: skip
ALSO = {"head": "attaching.loading", "hub": "pretrained"}  # what was one module is two
RENAMED = {
    "Axes": "BatchAxes", "Dice": "RngState", "Form": "FeatureSpec", "Guest": "InstalledLoop",
    "Held": "ThreadSettings",
    "Observer": "CriticRunner", "PICTURES": "READABLE",
    "PLAIN": "ONE_PROCESS", "PlainSpace": "PixelSpace", "again": "retry", "assumed": "latents_are_assumed",
    "drawn": "draw_inputs", "fetched": "download", "fit": "resize", "form_of": "feature_spec_of",
    "held": "resolve_generator",
    "look": "trace_forward", "proven": "verified", "same_dice": "same_rng", "span_of": "value_range_of",
    "spread": "broadcast", "standing_in": "replace_forward", "take_over": "retarget_optimizer", "told": "hub_errors",
    "tried": "ask",
}  # fmt: skip


class OldPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under the path that it had."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What ``import fbwrap.OLD`` asks for, where nothing else is found."""
        package, _, old = name.partition(".")
        return importlib.machinery.ModuleSpec(name, self) if package == "fbwrap" and old in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module the contents of the one that it is now."""
        old = module.__name__.removeprefix("fbwrap.")
        warnings.warn(f"{module.__name__} is fbwrap.{MOVED[old]} now.", DeprecationWarning, stacklevel=2)
        places = [import_module(f"fbwrap.{place}") for place in (MOVED[old], ALSO.get(old)) if place]

        def found(name: str) -> Any:
            for place in places:
                for each in (name, RENAMED.get(name, name)):
                    if hasattr(place, each):
                        return getattr(place, each)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = found  # type: ignore[method-assign]


def install() -> None:
    """From here on, old paths are found."""
    if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(OldPaths())
