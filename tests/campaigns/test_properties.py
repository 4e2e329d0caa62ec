"""Properties have as many examples as they are told, in a pytest of their own."""

import sys

import hypothesis
import pytest

from tests.campaigns import properties


def test_properties_have_as_many_examples_as_they_are_told(monkeypatch):
    called = []
    monkeypatch.setattr(properties, "run", lambda *words: called.extend(words) or 0)
    monkeypatch.setattr(sys, "argv", ["properties", "--trials", "7", "--seed", "2"])
    with pytest.raises(SystemExit) as stop:
        properties.main()
    assert not stop.value.code
    assert {"--hypothesis-seed=2", "--hypothesis-profile=campaign", "--every-row"} <= set(called)
    assert hypothesis.settings.get_profile("campaign").max_examples == 7
