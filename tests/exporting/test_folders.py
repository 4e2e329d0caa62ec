"""A folder is whole or not there."""

from pathlib import Path

import pytest

from spot.errors import StorageError
from spot.exporting.folders import check_new, whole_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path):
    for out in (tmp_path / "new", tmp_path / "a" / "b", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        check_new(out)
        with whole_folder(out) as folder:
            assert folder != out
            (folder / "file").write_text("text")
        assert [path.name for path in out.iterdir()] == ["file"]
        assert [path for path in out.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("else"), KeyboardInterrupt()])
def test_nothing_is_left_of_one_that_fails(failure: BaseException, tmp_path: Path):
    expected = StorageError if isinstance(failure, OSError) else type(failure)

    def fill() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("text")
            raise failure

    with pytest.raises(expected) as error:
        fill()
    assert list(tmp_path.iterdir()) == []
    if expected is StorageError:
        assert "No space left on device. Free some disk space" in str(error.value)


def test_a_folder_with_something_and_a_file_are_refused(tmp_path: Path):
    (tmp_path / "mine").touch()
    with pytest.raises(StorageError, match=r"holds other things \(mine\)"):
        check_new(tmp_path)
    with pytest.raises(StorageError, match="cannot export to"):
        check_new(tmp_path / "mine")
