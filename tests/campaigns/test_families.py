"""The campaign over families knows what the page of models says of each, and sees where that is not so."""

from tests.campaigns import families
from tests.support.families import FAMILIES


def test_the_page_says_of_every_family_what_comes_of_it():
    assert families.expected().keys() == FAMILIES.keys()
    assert set(families.expected().values()) == {"exact", "refused"}


def test_another_result_than_on_the_page_is_a_failure(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", {"bert@encoder": FAMILIES["bert@encoder"]})
    assert list(families.run(9, seed=1)) == []
    monkeypatch.setattr(families, "expected", lambda: {"bert@encoder": "exact"})
    [problem] = families.run(9, seed=1)
    assert problem.startswith("bert@encoder: expected exact, measured ") and "sees later tokens" in problem
