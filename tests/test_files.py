"""Files that are whole or not there."""

import os
import stat

import pytest

from fbwrap.files.atomic import atomic_write
from fbwrap.files.pictures import FIGURES, IN_BROWSERS, READABLE, is_picture


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_that_the_users_files_get(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.txt", durable=True) as part:
            part.write_text("whole")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_write(target) as part:
        part.write_text("old")
    for error in (OSError, KeyboardInterrupt):
        with pytest.raises(error), atomic_write(target) as part:
            part.write_text("half")
            raise error
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_the_next(tmp_path):
    from fbwrap.recipes.training import checkpoint

    (tmp_path / ".checkpoint-00000001-0badcafe.part.pt").write_bytes(b"half")
    checkpoint.save({"step": 2}, tmp_path, 2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000002.pt"]


def test_pictures_by_shape_and_name():
    assert is_picture((2, 3, 8, 8))
    assert is_picture((2, 1, 8, 8))
    assert not is_picture((2, 4, 8, 8))
    assert not is_picture((3, 8, 8))
    assert {".png", ".jpg"} <= set(READABLE) & set(IN_BROWSERS) & set(FIGURES)
