"""CTGAN's generator of tables: what a feedback head makes of it, and what it has to beat.

    python benchmarks/tables.py [--tables breast_cancer wine] [--seeds 0 1 2] [--out runs/tables]

A table of scikit-learn is split by the seed into a training part (60 %), a validation part and a test part. A CTGAN of
its own package (its defaults, but a batch of 100 and 1500 epochs) learns the training part. Then
three ways go on with its D, for as many steps: the head (two dual modules, fed D's activations), the same modules on
zeros, and G itself, its rate the best of three. Strength and rate are chosen on the validation part, by the distance of
the columns; the table is of the test part, and of 2000 generated rows:

- columns: the mean over the columns of numbers of Wasserstein's distance, in deviations of the real column;
- correlations: the mean difference of the columns' correlations;
- classifier: the accuracy on real rows of classifiers (a random forest, a logistic regression) that learned generated
  rows alone; their mean.
"""

import argparse
import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fbwrap.recipes import AFL, GAN
from fbwrap.recipes.studies import replaced_signals
from from_examples import example
from results import Results
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import fbwrap

EPOCHS, STEPS, ROWS = 1500, 1200, 2000
STRENGTHS, RATES = (0.25, 0.5, 1.0), (5e-5, 2e-4, 5e-4)
COMMON = {"loss": "wasserstein_gp", "betas": (0.5, 0.9), "trackers": "none"}
COLUMNS = ["columns", "correlations", "classifier", "strength"]


class Case:
    """A table, its split, and a CTGAN of its training part."""

    def __init__(self, name: str, seed: int, epochs: int) -> None:
        self.ours, self.seed = example("table"), seed
        frame = self.ours.table(name)
        order = np.random.default_rng(seed).permutation(len(frame))
        fifth = len(frame) // 5
        self.test, self.validation, self.train = (
            frame.iloc[rows] for rows in (order[:fifth], order[fifth : 2 * fifth], order[2 * fifth :])
        )
        self.model, self.D = self.ours.trained(self.train, epochs, seed)
        self.G = self.ours.Rows(self.model).eval()

    def measured(self, made: pd.DataFrame) -> dict[str, float]:
        """On the test part."""
        real, numbers = self.test, [name for name in made.columns if name != self.ours.CLASS]
        apart = np.abs(np.corrcoef(real[numbers].T) - np.corrcoef(made[numbers].T))
        right = []
        for learner in (
            RandomForestClassifier(200, random_state=0),
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        ):
            learner.fit(made[numbers], made[self.ours.CLASS])
            right.append(learner.score(real[numbers], real[self.ours.CLASS]))
        return {
            "columns": self.ours.column_distance(real, made),
            "correlations": float(apart.mean()),
            "classifier": float(np.mean(right)),
        }

    def sampled(self, generate: Callable[..., Any]) -> pd.DataFrame:
        return self.ours.sampled(self.model, generate, ROWS)

    def on_validation(self, generate: Callable[..., Any]) -> float:
        return self.ours.column_distance(self.validation, self.sampled(generate))

    def head(self, steps: int, control: str | None) -> dict[str, float]:
        """The head, or its modules on a control."""
        ours = self.ours
        torch.manual_seed(self.seed)
        how = ours.seen_by_critic(self.model)
        example = ours.latents(self.model)(self.model.pac)
        loop = fbwrap.attach(self.G, copy.deepcopy(self.D), ours.LINKS, example=example, **how)
        recipe = AFL(loop, lr=3e-4, batch=ours.BATCH, held_out=0, warmup=0, seed=self.seed, **COMMON)
        with loop, replaced_signals(loop, control) if control else nullcontext():
            recipe.fit(ours.real_rows(self.model, self.train), ours.latents(self.model), steps, progress=False)
            found = {}
            for strength in STRENGTHS:
                with loop.settings(strength=strength):
                    found[strength] = self.on_validation(loop)
            best = min(found, key=lambda strength: found[strength])
            with loop.settings(strength=best):
                return {**self.measured(self.sampled(loop)), "strength": best, "cost": loop.plan.cost}

    def trained_on(self, steps: int) -> dict[str, float]:
        """G itself."""
        ours = self.ours
        how = ours.seen_by_critic(self.model)
        tried: list[tuple[float, float, nn.Module]] = []
        for rate in RATES:
            torch.manual_seed(self.seed)
            net = copy.deepcopy(self.G)
            GAN(
                net, copy.deepcopy(self.D), critic_input=how["critic_input"], lr=rate, batch=ours.BATCH,
                critic_steps=5, seed=self.seed, **COMMON,
            ).fit(ours.real_rows(self.model, self.train), ours.latents(self.model), steps, progress=False)  # fmt: skip
            tried.append((self.on_validation(net.eval()), rate, net))
        _, rate, net = min(tried, key=lambda each: each[0])
        return {**self.measured(self.sampled(net)), "rate": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "wine"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    results, order = Results(options.out), []
    for name in options.tables:
        for seed in options.seeds:
            case = Case(name, seed, options.epochs)
            rows: dict[str, Callable[[], dict[str, float]]] = {
                "real training rows": lambda case=case: case.measured(case.train),
                "base": lambda case=case: case.measured(case.sampled(case.G)),
                "head": lambda case=case: case.head(options.steps, None),
                "same modules on zeros": lambda case=case: case.head(options.steps, "zeros"),
                "G trained on": lambda case=case: case.trained_on(options.steps),
            }
            for row, measure in rows.items():
                results.once(f"{name}, {row}", seed, measure)
        order += [f"{name}, {row}" for row in rows]
    print(results.table(COLUMNS, order))


if __name__ == "__main__":
    main()
