"""What memory is free, as the system says it, and the message where that is too little."""

import resource

import pytest
import torch

from spot.errors import BackboneError
from spot.models import memory
from spot.models.memory import check_room

CPU = torch.device("cpu")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A function that writes files of a control group."""
    monkeypatch.setattr(memory, "_CGROUPS", (str(tmp_path),))

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)

    return write


def test_a_model_that_fits_is_let_in(groups):
    check_room("m", 1000, 1000, CPU)


@pytest.mark.parametrize(
    "files",
    [
        {"memory__max": "5000\n", "memory__current": "4500\n", "memory__stat": "anon 1\ninactive_file 100\n"},
        {"memory__limit_in_bytes": "5000\n", "memory__usage_in_bytes": "4500\n"},
    ],
)
def test_the_limit_of_a_control_group_counts(groups, files):
    groups(**files)
    check_room("m", 400, 0, CPU)
    with pytest.raises(BackboneError, match=r"'m' needs 0.0 GiB of memory, and 0.0 GiB are free: end other programs"):
        check_room("m", 700, 0, CPU)


def test_a_control_group_without_a_limit_has_none(groups):
    groups(memory__max="max\n", memory__current="4500\n")
    check_room("m", 700, 0, CPU)


def test_more_than_the_machine_has_is_refused_with_need_and_have():
    with pytest.raises(BackboneError, match=r"'big' needs 1048576.0 GiB of memory, and .* GiB are free: .*bfloat16"):
        check_room("big", 2**50, 0, CPU)


def test_a_limit_of_address_space_counts_the_mapped_files_too(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**40, 2**40))
    check_room("m", 2**20, 2**20, CPU)
    with pytest.raises(BackboneError, match=r"of address space \(ulimit -v\), and"):
        check_room("m", 2**20, 2**41, CPU)


def test_the_memory_of_a_gpu_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (1000, 5000))
    with pytest.raises(BackboneError, match=r"of the memory of cuda:0, and 0.0 GiB are free"):
        check_room("m", 2000, 0, torch.device("cuda:0"))


def test_a_system_that_says_nothing_lets_every_model_in(groups, monkeypatch):
    monkeypatch.setattr(memory, "_field", lambda file, name: None)
    check_room("m", 2**60, 0, CPU)
