"""The tail of messages about unknown names."""

import pytest

from spot import errors
from spot.errors import RunError, SpotError, StorageError, did_you_mean, section_of


@pytest.mark.parametrize(
    ("name", "accepted", "tail"),
    [
        ("glue/sst", ("glue/rte", "glue/sst2"), "did you mean 'glue/sst2' or 'glue/rte'?"),
        ("sst2", ("glue/sst2", "trec"), "did you mean 'glue/sst2'?"),
        ("xyz", ("b", "a"), "known: a, b"),
        ("xyz", (), "none are known here"),
    ],
)
def test_near_names_are_offered_else_all_of_them(name: str, accepted: tuple[str, ...], tail: str):
    assert did_you_mean(name, accepted) == tail


def test_every_error_is_one_of_the_family():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 5
    assert all(issubclass(error, SpotError) and error.__doc__ for error in classes)


def test_an_error_names_its_section_also_where_its_class_is_a_further_one():
    class Diverged(RunError):
        """Of another module."""

    assert section_of(StorageError("full")) == "docs/errors.md#storageerror"
    assert section_of(Diverged("so")) == "docs/errors.md#runerror"
    assert section_of(SpotError("any")) == "docs/errors.md#spoterror"
