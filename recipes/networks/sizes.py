"""Sizes of networks that double or halve from stage to stage.

Examples:
    >>> doublings(32, 4)
    3
"""

from fbwrap.errors import SettingError


def doublings(size: int, least: int) -> int:
    """How often ``least`` doubles up to ``size``, once or more.

    Raises:
        SettingError: it does not get there.
    """
    stages = (size // least).bit_length() - 1
    if stages < 1 or least * 2**stages != size:
        raise SettingError(
            f"size={size}: these networks double from {least}: pass {2 * least}, {4 * least}, {8 * least} …"
        )
    return stages
