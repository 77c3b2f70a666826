"""Whether a head is worth publishing, said from the test part alone.

Examples:
    >>> better, worse = Interval(0.4, 0.3, 0.5), Interval(1.2, 1.1, 1.3)
    >>> judge(over_base=better, over_mixed_up=better, over_zeros=better, over_rival=better)[0]
    <Verdict.PUBLISH: 'publish'>
    >>> judge(over_base=better, over_mixed_up=better, over_zeros=better, over_rival=worse)[0]
    <Verdict.TRAIN_ON: 'better, but training G on is better still'>
    >>> judge(over_base=better, over_mixed_up=worse, over_zeros=better, over_rival=better)[0]
    <Verdict.NO_GAIN: 'no gain: keep the base'>
"""

from enum import Enum

from .measure import Interval


class Verdict(Enum):
    """What a report ends in."""

    PUBLISH = "publish"
    TRAIN_ON = "better, but training G on is better still"
    NO_GAIN = "no gain: keep the base"

    @property
    def exit_code(self) -> int:
        """Of ``fbwrap fit``: 0 publish, 3 better but training on is better still, 4 no gain."""
        return {"PUBLISH": 0, "TRAIN_ON": 3, "NO_GAIN": 4}[self.name]


def judge(
    over_base: Interval, over_mixed_up: Interval, over_zeros: Interval | None, over_rival: Interval | None
) -> tuple[Verdict, str]:
    """The verdict and why.

    Args:
        over_base: the head's distance to the test part over the base's.
        over_mixed_up: over its own where it gets D's features of another sample.
        over_zeros: over that of the same modules on zeros; None: not measured.
        over_rival: over that of the better one of G trained on and its low-rank update; None: not measured.
    """
    if over_base.high >= 1:
        how = "no better than the base" if over_base.low < 1 else "worse than the base"
        return Verdict.NO_GAIN, f"On the test part the head is {how}: its distance is {over_base} times the base's."
    if over_mixed_up.high >= 1:
        return Verdict.NO_GAIN, (
            f"The head is better than the base: its distance is {over_base} times the base's. But with D's features of "
            f"other samples it is just as good ({over_mixed_up}), so what D sees is not what helps."
        )
    if over_zeros is not None and over_zeros.high >= 1:
        return Verdict.NO_GAIN, (
            f"The head is better than the base: its distance is {over_base} times the base's. But it is not clearly "
            f"better than the same modules trained with zeros in place of D's features: its distance is {over_zeros} "
            "times theirs. So it is not shown that D helps."
        )
    if over_rival is not None and over_rival.low > 1:
        return Verdict.TRAIN_ON, (
            f"The head is better than the base: its distance is {over_base} times the base's. But training G for the "
            f"same time is better still: the head's distance is {over_rival} times that of G trained on."
        )
    alone = "" if over_rival is not None else " It was not compared with G trained on, nor with the modules on zeros."
    return Verdict.PUBLISH, f"On the test part the head's distance is {over_base} times the base's.{alone}"
