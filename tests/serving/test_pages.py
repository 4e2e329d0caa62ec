"""The page on a server: its frame holds no data, its files are its own, and its policy is strict."""

import json

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from spot.page.page import ASSETS, Sources, asset, page_value, progress_value
from spot.prompts.prompt import save
from spot.serving.pages import OPEN_PAGES, add_pages
from tests.support.pages import HOSTILE, filled, prompts, write_run


@pytest.fixture
def library(tmp_path):
    return filled(tmp_path / "our-own-prompts", prompts("a", "b", HOSTILE))


@pytest.fixture
def client(library, tmp_path):
    app = FastAPI()
    write_run(tmp_path / "transfer" / "plain-vocabulary", [[(0, 40.0)]], is_finished=False)
    add_pages(app, library, Sources(transfers=(tmp_path / "transfer",)))
    with TestClient(app) as client:
        yield client


def test_what_is_open_holds_nothing_of_the_library(client, library):
    assert {f"/page/{name}" for name in ASSETS} | {"/"} == OPEN_PAGES
    digests = [entry.digest for entry in library.entries()]
    for path in OPEN_PAGES:
        answer = client.get(path)
        assert answer.status_code == 200
        assert not [name for name in (*digests, library.path.name) if name in answer.text]


def test_the_files_are_those_of_the_page(client):
    for name in ASSETS:
        answer = client.get(f"/page/{name}")
        assert answer.text == asset(name)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"].startswith(kind) and answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page/page.py").status_code == client.get("/page/../page.py").status_code == 404


def test_no_script_runs_but_its_own(client):
    directives = dict(
        part.strip().split(" ", 1) for part in client.get("/").headers["content-security-policy"].split(";")
    )
    assert directives["script-src"] == directives["connect-src"] == "'self'"
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == "'none'"


def test_the_data_are_those_of_the_page(client, library, tmp_path):
    sources = Sources(transfers=(tmp_path / "transfer",))
    assert client.get("/page/data.json").json() == json.loads(json.dumps(page_value(library, sources)))
    assert client.get("/page/progress.json").json() == json.loads(json.dumps(progress_value(library, sources)))


def test_what_comes_and_goes_is_seen(client, library):
    before = client.get("/page/data.json").json()
    [new] = prompts("new")
    save(new, library.path / "prompts" / f"{new.digest}.safetensors")
    library.entries()[0].path.unlink()
    after = client.get("/page/data.json").json()
    digests = [{prompt["digest"] for prompt in value["library"]["prompts"]} for value in (before, after)]
    assert len(digests[0] & digests[1]) == 2 and new.digest in digests[1] - digests[0]


def test_the_page_is_no_part_of_the_interface(client):
    assert client.get("/openapi.json").json()["paths"] == {}
