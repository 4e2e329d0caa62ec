"""Executors: each item is done once, by a worker that loads once; what a cluster that is not there says."""

import socket
import time
from collections.abc import Iterator

import pytest

from spot.errors import MissingExtra, StudyError
from spot.study import executors


def test_serial_does_items_in_order_as_they_are_asked_for():
    told = []

    def items() -> Iterator[int]:
        for number in range(3):
            told.append(f"asked {number}")
            yield number

    def load() -> int:
        told.append("loaded")
        return 10

    found = []
    for item, result in executors.serial(load, lambda held, item: held * item, items()):
        told.append(f"done {item}")
        found.append(result)
    assert found == [0, 10, 20]
    assert told == ["asked 0", "loaded", "done 0", "asked 1", "done 1", "asked 2", "done 2"]


def test_serial_loads_nothing_where_there_is_nothing_to_do():
    assert list(executors.serial(lambda: pytest.fail("loaded"), lambda held, item: item, [])) == []


def test_errors_of_the_work_end_it():
    done = executors.serial(lambda: 0, lambda held, item: 1 // item, [1, 0, 2])
    assert next(done) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(done)


def test_a_missing_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'spot-transfer\[study\]'"):
        executors.ray("auto")


@pytest.mark.slow  # the unit tests may open no socket
@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "127.0.0.1:nowhere"])
def test_a_cluster_that_does_not_answer_is_named_soon(address):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(port=free.getsockname()[1])
    began = time.monotonic()
    with pytest.raises(StudyError) as error:
        executors.ray(address)
    assert time.monotonic() - began < 15
    assert f"no Ray cluster answers at {address}" in str(error.value) and "ray start --head" in str(error.value)


@pytest.mark.slow
def test_something_else_that_listens_is_no_cluster(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(executors, "ANSWER_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StudyError, match="no Ray cluster answers at"):
            executors.ray(f"127.0.0.1:{silent.getsockname()[1]}")
