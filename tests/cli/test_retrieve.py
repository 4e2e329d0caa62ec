"""`spot retrieve`: sources in their order, never the target itself."""

from tests.support.commands import Spot
from tests.support.tuned_tasks import TunedTasks


def test_retrieve(spot: Spot, tuned_tasks: TunedTasks):
    words = ["retrieve", tuned_tasks.task(), "--library", tuned_tasks.library, *tuned_tasks.model, "-k", 2]
    for metric in ("mean", "token", "max"):
        found = spot(*words, "--rank-by", metric, "--json").json
        assert (found["target"], found["rank_by"]) == ("mood", metric)
        assert {source["task"] for source in found["sources"]} == {"answer", "animal"}
        assert all(list(source) == ["prompt", "task", "similarity"] for source in found["sources"])
        similarities = [source["similarity"] for source in found["sources"]]
        assert similarities == sorted(similarities, reverse=True) and max(similarities) <= 1
    assert found["sources"][0]["prompt"] in spot(*words, "--rank-by", "max").out


def test_retrieve_never_names_the_target_itself(spot: Spot, tuned_tasks: TunedTasks):
    words = [tuned_tasks.task("animal"), "--library", tuned_tasks.library, *tuned_tasks.model, "-k", 1, "--json"]
    assert [source["task"] for source in spot("retrieve", *words).json["sources"]] == ["answer"]
