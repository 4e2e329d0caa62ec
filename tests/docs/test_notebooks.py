"""The notebooks run on the embedded model, and what they print is what stands in them."""

import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_has_its_outputs(path: Path):
    import nbformat

    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stat().st_size < 200_000
    assert not [output for cell in book.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert any(cell.get("outputs") for cell in book.cells)


@pytest.mark.docs
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client and its loops
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, own_cache: Path):
    import nbformat
    from nbclient import NotebookClient

    shutil.copytree(DOCS / "data", tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    book = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(book, timeout=500, kernel_name="python3", resources=place).execute()
    kept = nbformat.read(path, as_version=4)
    for cell, before in zip(book.cells, kept.cells, strict=True):
        kinds = [output.output_type for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        assert kinds == [output.output_type for output in before.get("outputs", [])], cell.source
