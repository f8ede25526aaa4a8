"""Files and folders appear whole or not at all."""

import errno

import pytest

from causalsat.errors import DataError
from causalsat.files import whole_file, whole_folder


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_names_the_file_and_the_free_bytes(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: \d+ bytes are free"), whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "out") as inside:
        (inside / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "1"
    with pytest.raises(DataError, match="exists already"), whole_folder(tmp_path / "out"):
        pass


def test_a_folder_that_fails_is_gone(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as inside:
        (inside / "a").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
