"""The page on a server: its frame holds no data, its files are its own, and its policy is strict."""

import json

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from spot.errors import StudyError
from spot.page.page import ASSETS, Sources, asset, page_value, progress_value
from spot.prompts.prompt import save
from spot.serving import pages
from spot.serving.app import create_app
from spot.serving.pages import OPEN_PAGES, add_pages
from spot.serving.settings import ServeSettings
from tests.support.pages import HOSTILE, filled, prompts, write_run
from tests.support.serving import LOCAL, Client, FakeCatalogue, FakeEngine

TOKEN = "a-token-for-the-tests-of-the-page"


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


def test_all_who_look_share_a_look_for_a_moment(client, tmp_path, monkeypatch):
    first = client.get("/page/progress.json").json()
    write_run(tmp_path / "transfer" / "spot-0-ab", [[(0, 41.0)]])
    assert client.get("/page/progress.json").json() == first
    monkeypatch.setattr(pages, "FRESH", -1.0)
    assert client.get("/page/progress.json").json()["stamp"] != first["stamp"]


def test_the_page_is_no_part_of_the_interface(client):
    assert client.get("/openapi.json").json()["paths"] == {}


def test_behind_a_token_the_frame_is_for_everyone_and_the_data_are_not(library):
    client = Client(create_app(FakeCatalogue(), FakeEngine(), ServeSettings(), token=TOKEN, library=library))
    for path in OPEN_PAGES:
        assert client.get(path).status == 200
    bearer = [*LOCAL, ("authorization", f"Bearer {TOKEN}")]
    for path in ("/page/data.json", "/page/progress.json"):
        assert client.get(path).status == 401
        assert client.get(path, headers=bearer).status == 200


def test_a_study_that_is_not_there_is_refused_before_anybody_looks(library, tmp_path):
    with pytest.raises(StudyError, match="nothing"):
        add_pages(FastAPI(), library, Sources(studies=(tmp_path / "nothing",)))
