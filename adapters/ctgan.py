"""CTGAN: tables.

Examples:
    >>> loop = fbwrap.attach(generator, discriminator)                                     # doctest: +SKIP
    >>> rows = loop(torch.cat([noise, condition], 1))                                      # doctest: +SKIP

The discriminator judges ``pac`` rows as one, and a row of a pack gets the pack's signal. It sees each column after its
activation and beside the condition, which the generator's module knows nothing of: examples/table.py wraps both.
"""

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network


def _noise_and_condition(net: Network) -> Tensor:
    return net.noise(1, net.shape("seq.0.fc")[1])


ADAPTER = Adapter(
    name="ctgan",
    citation="Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, Modeling Tabular Data using Conditional GAN, NeurIPS "
    "2019",
    generators=(
        GeneratorFamily(
            "CTGAN",
            layers={"seq.0.fc": "Linear", "seq.0.bn": "BatchNorm1d", "seq.0.relu": "ReLU"},
            example=_noise_and_condition,
            targets=lambda net: [f"seq.{place}" for place in net.indices("seq", having="fc")],
        ),
    ),
    critics=(
        CriticFamily(
            "CTGAN",
            layers={"seq.0": "Linear", "seq.1": "LeakyReLU", "seq.2": "Dropout"},
            types=r"^Linear LeakyReLU Dropout(?: Linear LeakyReLU Dropout)* Linear$",
            sources=("seq.1", "seq.4", "seq.7", "seq.10"),  # after each nonlinearity
            loss="wasserstein_gp",
            pack="pac",
        ),
    ),
)
