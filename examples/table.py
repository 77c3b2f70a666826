"""Feedback for a generator of tables: CTGAN, on a table that scikit-learn brings along.

    pip install ctgan
    python examples/table.py [--epochs 300] [--steps 600]

Trains a CTGAN (through its own package) on the measurements of 569 tumours, then a feedback head for it. CTGAN forgets
its discriminator when training ends: ``trained`` keeps it. It judges ten rows as one (``pac``), sees each column after
its activation, and beside the row the condition that the generator was given; ``Rows`` and ``attached`` say so. Prints
how far the columns are from the real ones before and after. Writes table.png: four columns.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from ctgan import CTGAN
from ctgan.synthesizers import ctgan as package
from fbwrap.recipes import AFL
from sklearn import datasets
from torch import Tensor, nn

import fbwrap

BATCH, CLASS = 100, "target"
LINKS = [("net.seq.0", "seq.1"), ("net.seq.1", "seq.4")]  # each block of G, each activation of D


def table(name: str = "breast_cancer") -> pd.DataFrame:
    """A table of numbers and a class."""
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame.copy()
    frame[CLASS] = frame[CLASS].astype(int).astype(str)
    return frame


def trained(frame: pd.DataFrame, epochs: int, seed: int = 0) -> tuple[CTGAN, nn.Module]:
    """A CTGAN, and its discriminator."""
    made, start = [], package.Discriminator.__init__

    def kept(self: nn.Module, *args: object, **options: object) -> None:
        start(self, *args, **options)
        made.append(self)

    package.Discriminator.__init__ = kept
    try:
        model = CTGAN(epochs=epochs, batch_size=BATCH, enable_gpu=False)
        model.set_random_state(seed)
        model.fit(frame, [CLASS])
    finally:
        package.Discriminator.__init__ = start
    return model, made[-1].eval()


class Rows(nn.Module):
    """G with the activations of its columns: noise and condition to rows, as D sees them."""

    def __init__(self, model: CTGAN) -> None:
        super().__init__()
        self.net = model._generator
        self.spans = [span for column in model._transformer.output_info_list for span in column]

    def forward(self, z: Tensor) -> Tensor:
        parts = self.net(z).split([span.dim for span in self.spans], 1)
        return torch.cat([
            part.tanh() if span.activation_fn == "tanh" else F.gumbel_softmax(part, tau=0.2)
            for part, span in zip(parts, self.spans, strict=True)
        ], 1)  # fmt: skip


def seen_by_critic(model: CTGAN) -> dict[str, object]:
    """What D is called with: rows and their condition, ten rows as one."""
    size = model._embedding_dim
    return {"critic_input": lambda rows, z: torch.cat([rows, z[:, size:]], 1), "pack": model.pac}


def latents(model: CTGAN) -> Callable[[int], Tensor]:
    """Noise and condition, as CTGAN draws them in training."""

    def draw(n: int) -> Tensor:
        condition = torch.from_numpy(model._data_sampler.sample_condvec(n)[0]).float()
        return torch.cat([torch.randn(n, model._embedding_dim), condition], 1)

    return draw


def real_rows(model: CTGAN, frame: pd.DataFrame) -> Callable[[int], Tensor]:
    """Real rows and the condition that they fulfil."""
    data = model._transformer.transform(frame)

    def draw(n: int) -> Tensor:
        condition, _, column, option = model._data_sampler.sample_condvec(n)
        rows = np.asarray(model._data_sampler.sample_data(data, n, column, option), dtype=np.float32)
        return torch.cat([torch.from_numpy(rows), torch.from_numpy(condition).float()], 1)

    return draw


@torch.no_grad()
def sampled(model: CTGAN, generate: Callable[[Tensor], Tensor], n: int, seed: int = 7) -> pd.DataFrame:
    """A table of n rows, of the same noise for whatever generates."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    rows = []
    for _ in range(-(-n // BATCH)):
        condition = torch.from_numpy(model._data_sampler.sample_original_condvec(BATCH)).float()
        rows.append(generate(torch.cat([torch.randn(BATCH, model._embedding_dim), condition], 1)).numpy())
    return model._transformer.inverse_transform(np.concatenate(rows)[:n])


def column_distance(real: pd.DataFrame, made: pd.DataFrame) -> float:
    """The mean over columns of numbers of Wasserstein's distance, in deviations of the real column."""
    level = np.linspace(0.005, 0.995, 100)
    numbers = [name for name in real.columns if name != CLASS]
    each = [np.abs(real[n].quantile(level) - made[n].quantile(level)).mean() / real[n].std() for n in numbers]
    return float(np.mean(each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    frame = table().sample(frac=1, random_state=0)
    train, test = frame[:400], frame[400:]
    model, D = trained(train, options.epochs)
    G = Rows(model).eval()

    loop = fbwrap.attach(G, D, LINKS, example=latents(model)(model.pac), **seen_by_critic(model))
    head = AFL(loop, loss="wasserstein_gp", lr=3e-4, batch=BATCH, held_out=0)
    head.fit(real_rows(model, train), latents(model), options.steps)
    loop.save_pretrained("runs/table")

    made = {"without feedback": sampled(model, G, 2000), "with feedback": sampled(model, loop, 2000)}
    for name, rows in made.items():
        print(f"{name}: {column_distance(test, rows):.3f} deviations from the real columns")
    draw(test, made)


def draw(real: pd.DataFrame, made: dict[str, pd.DataFrame]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3))
    for axis, name in zip(axes, real.columns, strict=False):
        bins = np.linspace(real[name].min(), real[name].max(), 20)
        axis.hist(real[name], bins, density=True, color="lightgray", label="real")
        for label, rows in made.items():
            axis.hist(rows[name], bins, density=True, histtype="step", label=label)
        axis.set_title(name)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig("table.png")


if __name__ == "__main__":
    main()
