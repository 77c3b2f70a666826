"""The papers' experiments as small configs, run by ``fbwrap train NAME --data DIR``.

Examples:
    >>> EXPERIMENTS["cifar10_dcgan"].head["lr"]
    0.0002

AFL's have two phases: G and D are trained (``base``), then the head with G frozen (``head``). FAL's have one, in which
G, D and the head learn together. Every one has a smoke size, which runs in seconds.
"""

from .config import Experiment
from .parts import mlp, roll
from .running import AS_PUBLISHED, checked, networks_of, run, train_without
from .table import EXPERIMENTS

__all__ = ["AS_PUBLISHED", "EXPERIMENTS", "Experiment", "checked", "mlp", "networks_of", "roll", "run", "train_without"]
