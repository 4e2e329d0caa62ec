import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from spot.serving.metrics import COUNTERS, GAUGES, metrics_of
from spot.serving.requests import Load
from tests.support.serving import FakeCatalogue, FakeEngine, client_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").body.decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_requests_rows_and_tokens_are_counted():
    client = client_of(FakeEngine(text="hello"), FakeCatalogue(problems=("a file is damaged",)))
    client.post("/v1/classify", {"model": "mood", "input": ["a", "b"]})
    client.post("/v1/completions", {"model": "base", "prompt": "abc", "n": 2})
    client.post("/v1/completions", {"model": "base", "prompt": "abc", "stream": True})
    client.post("/v1/classify", {"model": "nobody", "input": "a"})
    values = samples(client)
    assert values["spot_requests_total", "/v1/classify", "200"] == 1
    assert values["spot_requests_total", "/v1/classify", "404"] == 1
    assert values["spot_requests_total", "/v1/completions", "200"] == 2
    assert values["spot_request_seconds_count", "/v1/completions"] == 2
    assert values["spot_rows_total", "classify"] == 2
    assert values["spot_rows_total", "generate"] == 3
    assert values["spot_input_tokens_total",] == 2 * len("mood: a") + 3 + 3
    assert values["spot_output_tokens_total",] == 3 * 5
    assert values["spot_refused_total", "model_not_found"] == 1
    assert values["spot_prompts_served",] == 5
    assert values["spot_prompts_passed_over",] == 1


def test_what_the_engine_says_of_itself_is_told():
    load = Load(*range(1, 10))
    values = samples(client_of(FakeEngine(load=load)))
    assert {name: values[f"spot_{name}",] for name in GAUGES} == {name: getattr(load, name) for name in GAUGES}
    assert {name: values[f"spot_{name}_total",] for name in COUNTERS} == {
        name: getattr(load, name) for name in COUNTERS
    }
    assert GAUGES.keys() | COUNTERS.keys() == vars(load).keys()


def test_servers_of_one_process_count_apart():
    ours, theirs = client_of(), client_of()
    ours.post("/v1/classify", {"model": "mood", "input": "a"})
    assert ("spot_rows_total", "classify") not in samples(theirs)


def test_the_page_for_operators_names_every_metric():
    names = {family.name for family in metrics_of(FakeCatalogue(), FakeEngine()).registry.collect()}
    text = PAGE.read_text(encoding="utf-8")
    told = {name.removesuffix("_total") for name in re.findall(r"`(spot_\w+)", text)}
    assert names <= told, f"docs/serving.md lacks {sorted(names - told)}"
    assert told <= names, f"docs/serving.md has {sorted(told - names)}, which is none"
