"""From a pretrained GAN and its data to a head that is worth publishing, or the word that it is not.

Examples:
    >>> result = fbwrap.fit(G, D, images, latents=lambda n: torch.randn(n, 100), out="run")      # doctest: +SKIP
    >>> print(result)                                                                            # doctest: +SKIP
    >>> result.loop(z)                                                                           # doctest: +SKIP

Several ways of making D see what is wrong (:mod:`~fbwrap.recipes.fitting.ways`) are tried for a round; two go on to the
end: the best, and the D that was published (or else the second best), for a slow start says little. The better one of
these is taken, if it is better than the same modules on zeros. All that is chosen, the way, the step, the strength
and T, is chosen by the distance to the validation part. The verdict (:mod:`~fbwrap.recipes.fitting.verdict`) looks at
the test part, once.
"""

import functools
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fbwrap.engine.checks import check_loaded
from fbwrap.engine.names import unwrap
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import FbwrapError, SettingError
from fbwrap.feedback.latents import Latents, is_latents
from fbwrap.files.atomic import atomic_write
from fbwrap.heads.inputs import description_of, source_of
from fbwrap.loop import FeedbackLoop
from fbwrap.recognition.named import resolve_generator
from fbwrap.recognition.trained_with import LOSSES

from ..metrics import inception
from .controls import TrainedOn, around_lowest, step_ratio
from .head_run import HeadRun
from .measure import Generator, Interval
from .problem import Problem, is_paired
from .progress import Progress
from .report import write
from .result import Chosen, Result, Row
from .rounds import Score
from .verdict import Verdict, judge
from .ways import Way, chosen_ways, ways_for
from .without_critic import without_critic

logger = logging.getLogger("fbwrap")
ROUND = 200  # steps between two comparisons
PATIENCE, _FINALISTS = 3, 2  # rounds without a better head, of a way of length 1; ways that go on after the first
SWEEP = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25)
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # of G trained on
_TRIALS = 4  # of them, as a guess of the work
_SHARE = 0.3  # of the minutes, for the heads; what they are compared with takes about twice as long
_TRAINED_ON, _ZEROS = ("G trained on", "low-rank update of G"), "same modules on zeros"
_ALONE = "without_D"
_MIXED_UP = "head, with D's features of other samples"
_HOPELESS = 2.0  # times the least distance: what is farther off is given up
_BETTER = 0.99  # of the best distance: less is no news


def fit(
    generator: Any,
    discriminator: nn.Module | None = None,
    data: Any = None,
    *,
    latents: Any = None,
    out: str | Path = "runs/fit",
    steps: int = 1200,
    minutes: float | None = None,
    seed: int = 0,
    features: Callable[[Tensor], Tensor] | Literal["inception"] | None = None,
    ways: Sequence[str | Way] | None = None,
    controls: bool = True,
    loss: str | None = None,
    callbacks: Sequence[Callable[[str, Score], None]] = (),
    **attach: Any,
) -> Result:
    """Train a feedback head for a pretrained G, and say whether it is worth having.

    Args:
        generator: G, its weights loaded; or its name, as in :func:`fbwrap.attach`.
        discriminator: the D that G was trained with, if it was published. Others are made for this G in any case.
        data: real samples: a tensor ``(N, C, …)`` in G's range, a dataset of items
            (:mod:`fbwrap.recipes.data`), or a tuple (samples, labels): the labels are then named by D. Of a G that
            takes pictures: a tuple (inputs, targets), or a dataset of such pairs
            (:class:`~fbwrap.recipes.data.SuperResolution`).
        latents: G's inputs: ``f(n)``, a tensor, or how they are distributed (``"normal"``, ``"uniform:-1:1"``,
            ``["normal", "labels:0:9"]``), with ``example=``. With pairs: None.
        out: a folder: checkpoints, the head, the report. The same call goes on from what lies there.
        steps: of the head, at most; of the published D's, which is slow, three times as many.
        minutes: for the whole fit, about. The heads get a share of it (all of it without ``controls``); what they are
            compared with is then trained for as many steps as the best of them was. At least one round of each way,
            and what it is compared with, is always trained. A fit that was ended so stays ended in its folder.
        seed: of the split, of networks and of the order of the data.
        features: samples to features (N, D) for the distance; ``"inception"``: those of FID, where its weights are
            (``value_range=`` says what is black and white, else -1 and 1); None: one is learned on the training part.
        ways: those that are tried, by name (:func:`~fbwrap.recipes.fitting.ways.ways_for`) or as a
            :class:`~fbwrap.recipes.fitting.ways.Way` of one's own; None: all.
        controls: whether to train what the head has to beat. Without them there is no verdict but against the base.
        loss: that D was trained with (``fbwrap.recipes.LOSSES``). None: as an adapter knows; else ``"bce"``, or
            ``"hinge"`` of a D with spectral norm.
        callbacks: called after each comparison with the name of what is trained and its :class:`Score`.
        attach: further arguments of :func:`fbwrap.attach` for the D that was given (``critic_input``, ``response``).

    Ctrl-C leaves the best head so far in ``out/head``, not judged; the same call goes on.

    Returns:
        The loop, the verdict and the table. G, D and the modes they are in are as before.

    Raises:
        SettingError: data or latents that are missing or do not fit G.
    """
    started = time.monotonic()
    folder = Path(out)
    generator, _ = resolve_generator(generator)
    if not isinstance(generator, nn.Module):
        raise SettingError(f"generator={generator!r} is not a torch.nn.Module.")
    check_loaded("G", generator)
    if loss not in (None, *LOSSES):
        raise SettingError(f"loss={loss!r} is not one of {', '.join(LOSSES)}.")
    if data is None:
        raise SettingError("fit needs data=: real samples like those that G should make.")
    space = inception(attach.get("value_range") or (-1.0, 1.0)) if features == "inception" else features
    modules = list(unwrap(generator).modules())
    with torch.random.fork_rng(), training_mode(modules, False):
        torch.manual_seed(seed)
        draw, described = (None, None) if is_paired(data) else _latents(generator, discriminator, latents, attach)
        problem = Problem.of(
            generator, discriminator, data, draw, seed=seed, folder=folder, features=space,
            attach={key: value for key, value in attach.items() if key != "example"},
        )  # fmt: skip
        problem = replace(problem, loss=loss, described=described)
        problem.check_folder(folder, seed, steps)
        until = math.inf if minutes is None else started + 60 * minutes * (_SHARE if controls else 1.0)
        tried = chosen_ways(ways, ways_for(discriminator is not None, problem.labelled, problem.pairs is not None))
        heads = {
            way.name: HeadRun(problem, way, folder / way.name.replace(" ", "-"), seed, round(steps * way.length))
            for way in tried
        }
        progress = Progress(problem.validation.brief(generator), callbacks, logger.info)
        try:
            winner, sweep, rivals, alone, critic = _trained(heads, until, folder, progress, controls)
        except KeyboardInterrupt:
            _save_so_far([run for run in heads.values() if run.scores], progress.base, folder)
            raise
        rows, verdict, why = _measured(problem, winner, rivals)
        chosen = Chosen(winner.way.name, winner.best.step, float(winner.loop.strength), winner.loop.steps, critic)
        without_critic = None
        if verdict is Verdict.NO_GAIN:
            winner.loop.strength, winner.loop.steps = 0.0, 1
            without_critic, also = _without_critic(alone, rows)
            why += also
        history = {name: run.scores for name, run in heads.items()}
        result = Result(winner.loop, verdict, why, rows, sweep, history, problem.space, time.monotonic() - started,
                        chosen, rivals, without_critic)  # fmt: skip
        _save(result, problem, folder)
    return result


def _latents(
    generator: nn.Module, discriminator: nn.Module | None, given: Any, attach: dict[str, Any]
) -> tuple[Any, Latents | None]:
    """A source of G's inputs, and how they are distributed, where that is known."""
    if given is None or is_latents(given):
        import fbwrap

        with fbwrap.attach(generator, discriminator, "auto", **attach) as loop:
            if given is None and loop.latents is None:
                logger.warning(
                    "The distribution of G's latents is not known: normal is assumed. If it is another, pass "
                    "latents=, such as 'uniform:-1:1'."
                )
            loop.latents = given if given is not None else (loop.latents or "normal")
            return source_of(loop), loop.latents
    return given, description_of(given, given(2)) if callable(given) else None


def _trained(
    heads: dict[str, HeadRun], until: float, folder: Path, progress: Progress, controls: bool
) -> tuple[HeadRun, dict[float, float], dict[str, Generator], HeadRun | None, str]:
    """The best head, its distance by strength, what it has to beat, among that its modules without D, and the way whose
    D trained G further."""
    if controls:
        steps = max(run.planned for run in heads.values())
        progress.expect(_ZEROS, steps)
        critics = 1 + any(run.way.teaches == "published" for run in heads.values())
        for name, trials in zip(_TRAINED_ON, (critics * _TRIALS, _TRIALS), strict=True):
            progress.expect(name, 3 * steps + (trials - 2) * min(2 * ROUND, steps))
    winner, sweep, zeros = _best_of(_race(heads, until, folder, progress), folder, progress, controls)
    rivals: dict[str, Generator] = {}
    critic = ""
    if controls and winner.loop.strength:  # a head of no strength has nothing to beat: the verdict is known
        published = next((run for run in heads.values() if run.way.teaches == "published"), None)
        rivals, critic = _controls(winner, published, folder, progress)
    if zeros is not None:
        rivals[_ZEROS] = zeros.at(zeros.best.strength)
    return winner, sweep, rivals, zeros, critic


def _race(heads: dict[str, HeadRun], until: float, folder: Path, progress: Progress) -> list[HeadRun]:
    """All ways for one round, two of them to the end: the best, and the published D or else the second best. One that
    is twice as far off is given up, and no round begins after ``until`` (of time.monotonic()) but the first; where that
    ended it, it stays ended, for what heads are compared with has as many steps. Returns these two, the better one
    first."""
    path = folder / "race.json"
    over = json.loads(path.read_text())["over_at_step"] if path.is_file() else math.inf
    going, done = list(heads.values()), 0
    finalists = going
    while going:
        done += ROUND
        for place, run in enumerate(going):
            progress.expect(run.way.name, min(done, run.planned) if place > 1 else run.planned)
        for run in going:
            progress.tell(run.way.name, run.train(min(done, run.planned)), run.lr)
        if len(finalists) > _FINALISTS:
            ranked = sorted(finalists, key=lambda run: run.best.distance)
            slow = [run for run in ranked[1:] if run.way.teaches == "published"]
            finalists = [ranked[0], *(slow or ranked[1:])[:1]]
        least = min(run.best.distance for run in finalists)
        hopeless = _HOPELESS * least if done > ROUND else math.inf
        going = [run for run in finalists if run.best.distance < hopeless and not _is_over(run)]
        if done >= over or time.monotonic() >= until:
            with atomic_write(path) as part:
                part.write_text(json.dumps({"over_at_step": done}))
            break
    for run in finalists:
        progress.expect(run.way.name, run.steps)
    return sorted(finalists, key=lambda run: run.best.distance)


def _best_of(
    finalists: list[HeadRun], folder: Path, progress: Progress, controls: bool
) -> tuple[HeadRun, dict[float, float], HeadRun | None]:
    """The best head on the validation part that is better than the same modules on zeros (the best, if none is),
    at its best strength and T; its distance by strength; those modules. A head that is behind another one's modules on
    zeros is not taken for being ahead of its own."""
    found: list[tuple[HeadRun, dict[float, float], HeadRun | None]] = []
    without: list[Tensor] = []  # what modules on zeros make
    for run in finalists:
        run.restore_best()
        sweep, part = _choose(run), run.problem.validation
        if not controls or not run.loop.strength:
            found.append((run, sweep, None))
            continue
        made = part.look(run.loop)
        if any(part.ratio(made, other).low > 1 for other in without):
            continue
        zeros = HeadRun(run.problem, run.way, folder / "zeros" / run.folder.name, run.seed, run.steps, run)
        _to_the_end(_ZEROS, zeros, run.steps, progress)
        zeros.restore_best()
        found.append((run, sweep, zeros))
        without.append(part.look(zeros.at(zeros.best.strength)))
        if part.ratio(made, without[-1]).high < 1:
            return found[-1]
    return found[0]


def _is_over(run: HeadRun) -> bool:
    """Whether all steps are done, or the last rounds brought nothing."""
    scores, patience = run.scores, round(PATIENCE * run.way.length)
    if run.steps >= run.planned:
        return True
    if len(scores) <= patience:
        return False
    before = min(score.distance for score in scores[:-patience])
    return min(score.distance for score in scores[-patience:]) > _BETTER * before


def _choose(winner: HeadRun) -> dict[float, float]:
    """Set strength and T to what is best on the validation part; what is no better than the base is set to 0."""
    part = winner.problem.validation
    sweep = {0.0: part.distance(winner.problem.generator), **{at: part.distance(winner.at(at)) for at in SWEEP}}
    best = min(sweep, key=lambda at: sweep[at])
    winner.loop.strength, winner.loop.steps = best, 1  # 0: the head changes nothing
    if best and part.distance(winner.at(best, steps=2)) < _BETTER * sweep[best]:
        winner.loop.steps = 2
    return sweep


def _controls(
    winner: HeadRun, published: HeadRun | None, folder: Path, progress: Progress
) -> tuple[dict[str, Generator], str]:
    """G trained on and a low-rank update, at equal steps, then at equal time; and the way whose D trains them: the
    head's, or the published D, whichever does better. The rate is searched for with each; the best two go on to the
    end, for the rate that is best after a short trial is often too low."""
    steps, trial = winner.steps, min(2 * ROUND, winner.steps)
    parameters = sum(map(torch.numel, winner.loop.parameters()))
    critics = [winner] if published is None or published is winner else [winner, published]
    found: dict[str, Generator] = {}
    for name, size in zip(_TRAINED_ON, (None, parameters), strict=True):

        def run_of(critic: HeadRun, rate: float, planned: int, size: int | None = size, name: str = name) -> TrainedOn:
            where = folder / name.replace(" ", "-") / critic.folder.name / f"{rate:g}-{planned}"
            return TrainedOn(critic.problem, critic.way, critic.warmed_critic, where, critic.seed, rate, planned, size)

        tried: list[tuple[float, HeadRun, TrainedOn]] = []
        for critic in critics:
            runs = [functools.cache(functools.partial(run_of, critic, rate, steps)) for rate in RATES]

            def after_a_trial(place: int, runs: Sequence[Callable[[], TrainedOn]] = runs, name: str = name) -> float:
                run = runs[place]()
                progress.tell(name, run.train(trial), run.lr)
                return run.within(trial)

            around = around_lowest(after_a_trial, len(RATES))
            tried += [(value, critic, runs[place]()) for place, value in around.items()]
        tried.sort(key=lambda each: each[0])
        finalists = [(critic, run) for value, critic, run in tried[:_FINALISTS] if value <= _HOPELESS * tried[0][0]]
        for _, run in finalists:
            _to_the_end(name, run, steps, progress)
        critic, first = min(finalists, key=lambda each: each[1].best.distance)
        critics = [critic]  # the update is taught by the D that taught all of G best
        found[f"{name}, equal steps"] = first.best_network()
        # as many steps as take the time that the head takes
        planned = max(steps, round(steps * step_ratio(winner, first, folder / name.replace(" ", "-"))))
        longer = run_of(critic, first.lr, planned) if planned > steps else first
        progress.expect(name, planned)
        _to_the_end(name, longer, planned, progress)
        found[f"{name}, equal time"] = longer.best_network()
    return found, critics[0].way.name


def _to_the_end(name: str, run: HeadRun | TrainedOn, steps: int, progress: Progress) -> None:
    while run.steps < steps:
        progress.tell(name, run.train(min(steps, run.steps + ROUND)), run.lr)


def _measured(problem: Problem, winner: HeadRun, rivals: dict[str, Generator]) -> tuple[list[Row], Verdict, str]:
    """The test part, looked at once."""
    test = problem.test
    models: dict[str, Generator] = {"base": problem.generator, "head": winner.loop}
    if winner.loop.strength:
        models[_MIXED_UP] = winner.mixed_up
    models |= rivals
    seen = {name: test.look(generate) for name, generate in models.items()}
    rows = []
    for name, found in seen.items():
        over = test.ratio(found, seen["base"]) if name != "base" else Interval(1.0, 1.0, 1.0)
        rows.append(Row(name, test.interval(found), over, test.beside(found)))
    if not winner.loop.strength:
        return rows, Verdict.NO_GAIN, "At no strength was the head better than the base on the validation part."
    over_base = next(row.over_base for row in rows if row.model == "head")
    zeros = seen.get(_ZEROS)
    over_zeros = test.ratio(seen["head"], zeros) if zeros is not None else None
    timed = {row.model: row.distance.value for row in rows if row.model.endswith("equal time")}
    over_rival = None
    if timed:
        over_rival = test.ratio(seen["head"], seen[min(timed, key=lambda name: timed[name])])
    over_mixed_up = test.ratio(seen["head"], seen[_MIXED_UP])
    return rows, *judge(over_base, over_mixed_up, over_zeros, over_rival)


def _without_critic(alone: HeadRun | None, rows: list[Row]) -> tuple[FeedbackLoop | None, str]:
    """The modules that never ask D, where they are better than the base; and what to say of them."""
    over = next((row.over_base for row in rows if row.model == _ZEROS), None)
    if alone is None or over is None or over.high >= 1:
        return None, ""
    alone.loop.strength = alone.best.strength
    try:
        loop = without_critic(alone.loop)
    except FbwrapError as error:
        logger.warning("The modules without D are saved with D, although it is never run: %s", error)
        loop = alone.loop
    return loop, (
        f" These modules are worth having without feedback, though: they are at {over} of the base's distance, and a "
        f"sample costs {loop.plan.cost:.2g} times G. They are in the folder {_ALONE}."
    )


def _save_so_far(heads: list[HeadRun], base: float, folder: Path) -> None:
    """The best head of a fit that is stopped, without a verdict."""
    if not heads:
        return
    run = min(heads, key=lambda each: each.best.distance)
    run.restore_best()
    run.loop.strength = run.best.strength if run.best.distance < base else 0.0
    why = f"The fit was stopped. On the validation part the head is at {run.best.distance / base:.2f} of the base."
    run.loop.save_pretrained(
        folder / "head", discriminator="all", trained_on={"verdict": "not judged", "why": why, "way": run.way.name}
    )
    logger.warning("Stopped. The best head so far is in %s; the same call goes on.", folder / "head")


def _save(result: Result, problem: Problem, folder: Path) -> None:
    about = {
        **result.loop.facts.trained_on,
        "verdict": result.verdict.value,
        "why": result.why,
        **asdict(result.chosen),
        "strength": float(result.loop.strength),
    }
    result.loop.save_pretrained(folder / "head", discriminator="all", trained_on=about)
    if result.without_critic is not None:
        about = {
            **result.without_critic.facts.trained_on,
            "verdict": "better than G, without feedback",
            "why": result.why,
        }
        result.without_critic.save_pretrained(folder / _ALONE, trained_on=about)
    elif (folder / _ALONE / "config.json").is_file():  # of an earlier fit in this folder
        shutil.rmtree(folder / _ALONE)
    write(result, problem, folder)
