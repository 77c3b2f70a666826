"""FAL (CVPR 2019, §4): a generator that looks at its last sample and D's response map, T times, learning as it does.

Examples:
    >>> loop = fbwrap.attach(G, D, ["model.9"], module="ast", steps=3, example=x)      # doctest: +SKIP
    >>> fbwrap.recipes.FAL(loop, loss="least_squares").fit(Pairs(x, y), steps=5000)    # doctest: +SKIP

h_0 = G_e(x) is carried and transformed at each step, y_0 and r_0 are zeros (Eq. 6-10), and the loss is the mean over
the T steps. As published G, D and the head learn together; ``train_generator=False`` keeps a pretrained G.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from fbwrap.engine.fingerprint import fingerprint
from fbwrap.engine.names import unwrap
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import SettingError
from fbwrap.heads.files import GENERATOR
from fbwrap.loop import FeedbackLoop

from .afl import AFL
from .training.steps import Head, Player
from .training.trainer import Trainer
from .training.watch import Watch
from .training.weights import save_generator


class _Both(Head):
    """The head and G as the player."""

    def __init__(self, loop: FeedbackLoop, loss_steps: str):
        super().__init__(loop, loss_steps)
        self.learner = nn.ModuleDict({"head": loop.feedback, "generator": unwrap(loop.generator)})


class FAL(AFL):
    """Trains a loop whose modules are FAL's, and with it G.

    As :class:`AFL`, but G learns too (in place, in train mode; afterwards it holds its averaged weights), unless
    ``train_generator`` is False. D's feedback comes from D itself (``critic_ema=0``). The head fits the G that was
    trained with it: with ``out``, its weights are beside the head, in ``generator.safetensors``. A G with batch norm
    keeps the statistics of the first of the T passes, which are not those of later ones: instance or group norm is
    safer.

    As published the loss is the mean over all steps (``loss_steps="all"``). Without paired data that leaves G a way
    out: D sees the steps' outputs as one set, and it is enough that this set is like real data. On voxels every y_t
    became a few shapes, other ones for each t. ``loss_steps="last", critic_ema=0.995`` mends it
    (docs/results/voxels.md): the losses are of y_T alone, and the feedback is that of an average of D, as what is kept
    is an average of the head.

    While G learns there is no base to compare with: no held-out comparison, and the strength stays.

    Args:
        train_generator: whether G learns.
        loop, options: as in :class:`AFL`.
    """

    _critic_steps = 1

    def __init__(self, loop: FeedbackLoop, *, train_generator: bool = True, **options: Any):
        if loop.plan.first != "zeros":
            raise SettingError(
                "FAL starts from zeros, and this loop's first step looks at G(x). Attach with module='ast' (or film, "
                "concat, add), or with first='zeros'."
            )
        if train_generator and not any(p.requires_grad for p in unwrap(loop.generator).parameters()):
            raise SettingError(
                "All parameters of G are frozen (requires_grad is False). Call G.requires_grad_(True), or "
                "pass train_generator=False."
            )
        super().__init__(loop, **{"critic_ema": 0.0, **options})
        self._train_generator = train_generator
        if train_generator:
            self._generator_mode = None  # it was trained as any G is: for eval mode

    def _warmup(self, steps: int) -> int:
        return 0

    def _watch(self, trainer: Trainer) -> Watch | None:
        return None if self._train_generator else super()._watch(trainer)

    def _player(self) -> Player:
        return (_Both if self._train_generator else Head)(self.loop, self.options.loss_steps)

    def _fixed(self) -> dict[str, nn.Module]:
        return {name: net for name, net in super()._fixed().items() if name != "G" or not self._train_generator}

    @contextmanager
    def _learning(self) -> Iterator[None]:
        if not self._train_generator:
            with super()._learning():
                yield
            return
        generator = unwrap(self.loop.generator)
        try:
            with training_mode(list(generator.modules()), True):
                self.loop.train()
                self.loop.update_statistics = True
                yield
        finally:
            self.loop.update_statistics = False
            self.loop.eval()
            moving = self.loop.facts.generator.get("moving")
            self.loop.note(generator=fingerprint(generator, moving=moving))

    def _save(self, folder: Path) -> None:
        if self._train_generator:
            save_generator(self.loop.generator, folder / "head")
            self.loop.note(trained_on={**self.loop.facts.trained_on, "generator": GENERATOR})
        super()._save(folder)
