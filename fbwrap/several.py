"""``fbwrap.Heads``: several heads on one generator, switched by name.

Examples:
    >>> heads = fbwrap.Heads(G)                                                         # doctest: +SKIP
    >>> heads.add("me/sharper", D, name="sharp")                                        # doctest: +SKIP
    >>> heads.add(loop, name="colours")                                                 # doctest: +SKIP
    >>> y = heads(z)                                                                    # doctest: +SKIP
    >>> heads.use("colours", "sharp", weights={"sharp": 0.5})                           # doctest: +SKIP
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import nn

from .engine.locks import locked
from .engine.names import entry, unwrap
from .errors import SettingError
from .feedback.export import export
from .feedback.settings import Strength, check_strength
from .loop import FeedbackLoop
from .pretrained import from_pretrained


class Heads:
    """Several heads on one generator, by name: which of them act, in which order, how strongly.

    Calling it takes and returns what G takes and returns. Heads act one on top of the other: the second one's D looks
    at what G makes with the first, and its corrections enter each pass of G that the first one makes. So two heads with
    one step each cost four passes of G. With none in use it is G, bit for bit.

    Args:
        generator: the user's module; it is not changed.

    Attributes:
        loops: the heads' loops, by name, in the order of adding.
        weights: those in use, in the order in which they act, and what their strengths are multiplied by.
    """

    def __init__(self, generator: nn.Module) -> None:
        self.generator = generator
        self.loops: dict[str, FeedbackLoop] = {}
        self.weights: dict[str, Strength] = {}

    def add(
        self,
        head: FeedbackLoop | str | os.PathLike[str],
        discriminator: nn.Module | None = None,
        *,
        name: str,
        **options: Any,
    ) -> FeedbackLoop:
        """Add a head, and use it after those that are in use.

        Args:
            head: a loop that is attached to this generator, a folder, or ``"user/name"`` on the Hub.
            discriminator, options: with a folder or a name: as of :func:`fbwrap.from_pretrained`.
            name: what it is called here.

        Returns:
            Its loop, whose strength and steps may be changed.

        Raises:
            SettingError: the name is taken, or the loop is another generator's, or of another of its methods.
        """
        if name in self.loops:
            raise SettingError(f"There is a head {name!r} already. Pass another name=, or remove it first.")
        if isinstance(head, FeedbackLoop):
            if discriminator is not None or options:
                raise SettingError("A loop already has its discriminator and settings: pass only the loop and name=.")
            loop = head
        else:
            loop = from_pretrained(head, self.generator, discriminator, **options)
        if unwrap(loop.generator) is not unwrap(self.generator):
            raise SettingError(f"The head {name!r} is attached to another generator. Attach it to this one.")
        methods = {each.method for each in (*self.loops.values(), loop)}
        if len(methods) > 1:
            raise SettingError(
                f"All heads must correct the same method of G, but these correct {sorted(methods)}. Attach them "
                "all with the same method=."
            )
        self.loops[name] = loop
        self.weights[name] = 1.0
        return loop

    def remove(self, name: str) -> FeedbackLoop:
        """Take a head out; its loop stays attached."""
        loop = self[name]
        del self.loops[name]
        self.weights.pop(name, None)
        return loop

    def use(self, *names: str, weights: Mapping[str, Strength] | None = None) -> Self:
        """Choose the heads that act, in this order; none: G alone.

        Args:
            weights: what a head's own strength is multiplied by; 1 where nothing is said. A number, a value for each
                sample or a mask, as strengths are.

        Raises:
            SettingError: a name that there is not, or one twice.
        """
        weights = dict(weights or {})
        for name in (*names, *weights):
            self[name]
        if twice := [name for name in names if names.count(name) > 1]:
            raise SettingError(f"{twice[0]!r} is named twice: a head acts once.")
        if unused := [name for name in weights if name not in names]:
            raise SettingError(f"{unused[0]!r} has a weight, and is not in use. Name it, too.")
        self.weights = {name: check_strength(weights.get(name, 1.0)) for name in names}
        return self

    def __getitem__(self, name: str) -> FeedbackLoop:
        if name not in self.loops:
            known = ", ".join(map(repr, self.loops)) or "none yet"
            raise SettingError(f"There is no head {name!r}. There are: {known}.")
        return self.loops[name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """G with the heads in use."""
        critics = [self.loops[name].discriminator for name in self.weights]
        # all locks at once, as everywhere: other threads wait, and then run G alone
        with locked(*(unwrap(net) for net in (self.generator, *critics) if net is not None)), self.installed():
            method = next((loop.method for loop in self.loops.values()), "forward")
            return entry(self.generator, method)(*args, **kwargs)

    def export(self, *example: object, dynamic: bool = False, **named: object) -> torch.export.ExportedProgram:
        """G with the heads in use in one graph, as :meth:`FeedbackLoop.export` makes one of a loop.

        Args:
            example, named: inputs of G.
            dynamic: leave every size open that the networks leave open.

        Raises:
            SettingError: no head has been added.
            UnsupportedError: torch.export cannot follow one of the networks.
        """
        if not self.loops:
            raise SettingError("There is no head yet to be exported: add one, or export G itself.")
        used = [loop for loop, _ in self._acting()]
        critics = [loop.discriminator for loop in used if loop.discriminator is not None]
        first = next(iter(self.loops.values()))
        return export(
            self, nn.ModuleList([loop.feedback for loop in used]), self.generator, nn.ModuleList(critics),
            (example, named), dynamic=dynamic, batch_axis=first.traces[0].batch.axis, method=first.method,
        )  # fmt: skip

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Within the block the generator itself runs with the heads in use."""
        with ExitStack() as stack:
            for loop, weight in self._acting():
                stack.enter_context(loop.settings(strength=loop.strength * weight))
                stack.enter_context(loop.installed())
            yield self

    def _acting(self) -> list[tuple[FeedbackLoop, Strength]]:
        """Those in use whose weight is not 0, and their weights."""
        return [(self.loops[name], weight) for name, weight in self.weights.items()
                if not isinstance(weight, float) or weight]  # fmt: skip

    def detach(self) -> None:
        """Detach all of them: G is what it was."""
        for loop in self.loops.values():
            loop.detach()
        self.loops.clear()
        self.weights.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        rows = [f"  {name}: {'off' if name not in self.weights else f'× {self.weights[name]}'}" for name in self.loops]
        return "\n".join([f"Heads of {type(unwrap(self.generator)).__name__}", *rows])
