"""A few trials of the campaign over texts and tokenizers."""

from tests.campaigns.texts import campaign
from tests.campaigns.trials import run


def test_rows_are_what_the_oracle_says():
    failures = list(run(campaign, trials=20, seed=1))
    assert not failures, failures
