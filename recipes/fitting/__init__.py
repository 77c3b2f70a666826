"""fbwrap.fit: from a pretrained GAN and its data to a head that is worth publishing, or the word that it is not."""

from .fitting import fit
from .result import Chosen, Result, Row
from .rounds import Score
from .verdict import Verdict
from .ways import Way

__all__ = ["Chosen", "Result", "Row", "Score", "Verdict", "Way", "fit"]
