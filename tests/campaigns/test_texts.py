"""A short run of the campaign over texts and tokenizers."""

from tests.campaigns import texts


def test_rows_are_what_the_oracle_says():
    assert texts.run(150) == []
