import json
import logging
from contextlib import closing

import pytest

from spot.library.library import Library
from tests.support.commands import refused
from tests.support.servers import serve_while


def run(spot, tuned_tasks, act, *words):
    """What a client sees of `spot serve`, and what the command printed."""
    results = []
    library = ("--library", tuned_tasks.library, "--port", 0)
    value, _ = serve_while(lambda: results.append(spot("serve", *library, *tuned_tasks.model, *words)), act)
    return value, results[0]


@pytest.mark.enable_socket
def test_a_library_is_served_as_predict_answers(spot, tuned_tasks, tmp_path):
    texts = ["answer 3 sure", "answer 5 never", "x"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    [prompt] = [entry.path for entry in Library(tuned_tasks.library).entries() if entry.task == "answer"]
    lines = spot("predict", prompt, "--input", rows, *tuned_tasks.model, "--json").json

    def act(server):
        with closing(server.connection()) as connection:
            connection.request("GET", "/v1/models")
            names = [model["id"] for model in json.loads(connection.getresponse().read())["data"]]
        classified = server.post("/v1/classify", {"model": "answer", "input": texts})
        return names, json.loads(classified[1])

    (names, reply), result = run(spot, tuned_tasks, act)
    assert names == ["base", "animal", "answer"]
    assert [entry["label"] for entry in reply["data"]] == [line["label"] for line in lines]
    for entry, line in zip(reply["data"], lines, strict=True):
        assert entry["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
    assert (result.code, result.out) == (0, "")
    assert "serving 2 prompts of" in result.err and "POST /v1/classify 200" in result.err
    assert result.err.rstrip().endswith("ended")
    assert logging.getLogger("spot.serving").level == logging.NOTSET


@pytest.mark.enable_socket
def test_a_prompt_is_served_as_a_run_left_it(spot, tuned_tasks, own_cache):
    [prompt] = [entry.path for entry in Library(tuned_tasks.library).entries() if entry.task == "answer"]

    def act(server):
        return json.loads(server.post("/v1/classify", {"model": "answer", "input": "x"})[1])["data"][0]["label"]

    results = []
    words = ("serve", "--prompt", prompt, "--port", 0, *tuned_tasks.model)
    label, _ = serve_while(lambda: results.append(spot(*words)), act)
    assert label and "serving 1 prompts of" in results[0].err.replace("1 prompt of", "1 prompts of")
    refused(spot(*words, "--library", tuned_tasks.library), "--library and --prompt are both given")


@pytest.mark.enable_socket
def test_settings_come_from_a_file_and_options_win(spot, tuned_tasks, tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text("max_rows = 2\nmax_new_tokens = 3\n")

    def act(server):
        many = server.post("/v1/classify", {"model": "answer", "input": ["a"] * 3})
        long = server.post("/v1/completions", {"model": "base", "prompt": "a", "max_tokens": 4})
        return many[0], long[0]

    statuses, _ = run(spot, tuned_tasks, act, "--config", config, "--set", "max_new_tokens=4")
    assert statuses == (413, 200)


@pytest.mark.enable_socket
def test_a_program_reads_where_it_listens(spot, tuned_tasks):
    port, result = run(spot, tuned_tasks, lambda server: server.port, "--json")
    assert result.json == {"url": f"http://127.0.0.1:{port}", "models": ["base", "animal", "answer"]}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--port", "70000"), ("port",)),
        (("--engine", "sglang"), ("engine",)),
        (("--set", "max_rowz=1"), ("max_rows",)),
        (("--config", "nowhere.toml"), ("nowhere.toml",)),
        (("--host", "0.0.0.0", "--port", "0"), ("--token-file",)),
        (("--token-file", "nowhere"), ("nowhere",)),
        (("--library", "nowhere", "--port", "0"), ("nowhere",)),
        (("--backbone", "nowhere/at-all", "--port", "0"), ("nowhere/at-all",)),
    ],
)
@pytest.mark.enable_socket
def test_a_mistake_is_one_message(spot, words, parts, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(spot("serve", *words), *parts)


@pytest.mark.enable_socket
def test_an_empty_library_needs_a_backbone(spot, tmp_path):
    Library.create(tmp_path / "empty")
    refused(spot("serve", "--library", tmp_path / "empty", "--port", 0), "--backbone")


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra_the_command_says_what_to_install(spot, monkeypatch, module):
    monkeypatch.setattr("spot.cli.serve.find_spec", lambda name: None if name == module else object())
    refused(spot("serve"), "pip install 'spot-transfer[serve]'", module.replace("_", "-"))
