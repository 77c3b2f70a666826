"""Training in rounds, each ended by a comparison; what was found stands in a file, so that a run can go on from there.

Examples:
    >>> import tempfile
    >>> rounds = Rounds(Path(tempfile.mkdtemp()))
    >>> rounds.note(Score(200, 20.0, 4.5, 1.0)), rounds.note(Score(400, 40.0, 5.0, 0.5))
    (True, False)
    >>> rounds.best.step, Rounds(rounds.folder).steps
    (200, 400)
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fbwrap.files.atomic import atomic_write


@dataclass(frozen=True)
class Score:
    """What a comparison found: after so many steps and seconds of training, the least distance and at what strength."""

    step: int
    seconds: float
    distance: float
    strength: float


class Rounds:
    """The comparisons of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / "scores.json"
        held = json.loads(self._path.read_text()) if self._path.is_file() else []
        self.scores = [Score(**row) for row in held]

    @property
    def best(self) -> Score:
        """The comparison with the least distance."""
        return min(self.scores, key=lambda score: score.distance)

    @property
    def steps(self) -> int:
        """Trained so far."""
        return self.scores[-1].step if self.scores else 0

    @property
    def seconds(self) -> float:
        """Spent on training so far."""
        return self.scores[-1].seconds if self.scores else 0.0

    def note(self, score: Score) -> bool:
        """Put a comparison down; whether it is the best so far."""
        better = not self.scores or score.distance < self.best.distance
        self.scores.append(score)
        with atomic_write(self._path) as part:
            part.write_text(json.dumps([asdict(each) for each in self.scores]))
        return better
