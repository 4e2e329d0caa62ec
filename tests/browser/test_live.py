"""The live page: what it asks the server for, and what it makes of the answers."""

import ast
import json
import shlex

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.live_pages import ORIGIN

pytestmark = pytest.mark.browser

TEXT = 'A warm, "funny" film; it\'s <b>good</b>.'


def classified(probabilities: dict[str, float]):
    label = max(probabilities, key=probabilities.__getitem__)
    value = {"data": [{"index": 0, "label": label, "probabilities": probabilities, "truncated": 0}]}
    return {"body": json.dumps({**value, "usage": {"prompt_tokens": 7}}), "content_type": "application/json"}


def streamed(*events: object):
    lines = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return {"body": lines, "content_type": "text/event-stream"}


def piece(text: str) -> dict:
    return {"choices": [{"index": 0, "text": text}]}


def prompt_of(server, task: str) -> dict:
    return next(prompt for prompt in server.value["library"]["prompts"] if prompt["task"] == task)


@pytest.fixture
def page(opened, server):
    return opened(f"{ORIGIN}/#try/{prompt_of(server, 'reviews')['digest']}", routes=server)


def test_labels_come_with_their_probabilities(page, server):
    server.answers["/v1/classify"] = lambda body: classified({"no": 0.2, "yes": 0.8})
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Ask").click()
    answer = page.locator(".answer")
    expect(answer).to_contain_text("Label: yes")
    assert [text.split() for text in answer.locator("tbody tr").all_inner_texts()] == [
        ["yes", "80.0", "%"],
        ["no", "20.0", "%"],
    ]
    expect(answer).to_contain_text("7 input tokens")
    assert server.asked == [("/v1/classify", {"model": prompt_of(server, "reviews")["digest"], "input": TEXT})]


def test_the_request_is_shown_as_it_is_sent(page, server):
    page.get_by_label("Text", exact=True).fill(TEXT)
    curl, python = page.locator("#request code").all_inner_texts()
    words = shlex.split(curl)
    body = {"model": prompt_of(server, "reviews")["digest"], "input": TEXT}
    assert words[:3] == ["curl", "-sN", f"{ORIGIN}/v1/classify"] and json.loads(words[words.index("-d") + 1]) == body
    constants = {node.value for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)}
    assert {TEXT, body["model"], f"{ORIGIN}/v1/classify"} <= constants


def test_two_prompts_side_by_side_have_the_fields_of_both(page, server):
    server.answers["/v1/classify"] = lambda body: classified({"no": 0.6, "yes": 0.4})
    page.get_by_label("Ask two side by side").check()
    page.get_by_label("Second prompt").select_option(prompt_of(server, "pairs")["digest"])
    page.get_by_label("Text", exact=True).fill("one")
    page.get_by_label("premise").fill("It rains.")
    page.get_by_label("claim").fill("It is wet.")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer table")).to_have_count(2)
    inputs = [body["input"] for _, body in server.asked]
    assert "one" in inputs and {"premise": "It rains.", "claim": "It is wet."} in inputs


def test_text_is_streamed(page, server):
    server.answers["/v1/completions"] = lambda body: streamed(piece("A short "), piece("<b>tale</b>."), "[DONE]")
    page.get_by_label("Prompt", exact=True).select_option(prompt_of(server, "summaries")["digest"])
    page.get_by_label("Text", exact=True).fill("A long tale.")
    page.get_by_label("Most tokens").fill("9")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".stream")).to_have_text("A short <b>tale</b>.")
    expect(page.locator(".answer")).to_contain_text("2 pieces")
    [(path, body)] = server.asked
    assert path == "/v1/completions" and body["stream"] is True
    assert (body["prompt"], body["max_tokens"], body["temperature"]) == ("A long tale.", 9, 0)


def test_the_frozen_model_alone_can_be_asked(page, server):
    server.answers["/v1/completions"] = lambda body: streamed(piece("x"), "[DONE]")
    page.get_by_label("Prompt", exact=True).select_option("base")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".stream")).to_have_text("x")
    assert server.asked[0][1]["model"] == "base"


def test_an_error_within_a_stream_is_said(page, server):
    server.answers["/v1/completions"] = lambda body: streamed(piece("Begun"), {"error": {"message": "it broke"}})
    page.get_by_label("Prompt", exact=True).select_option("base")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer .error")).to_have_text("it broke")


def test_an_answer_without_a_label_is_said(page, server):
    value = {"data": [{"index": 0, "label": None, "probabilities": None, "truncated": 3}], "usage": {}}
    server.answers["/v1/classify"] = lambda body: {"body": json.dumps(value), "content_type": "application/json"}
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_contain_text("gives no answer")
    expect(page.locator(".answer")).to_contain_text("3 tokens did not fit")


def test_the_form_and_its_answer_are_for_everybody(page, server):
    server.answers["/v1/classify"] = lambda body: classified({"no": 0.2, "yes": 0.8})
    page.get_by_label("Text", exact=True).fill("one")
    page.get_by_role("button", name="Ask").press("Enter")
    expect(page.locator(".answer table")).to_be_visible()
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            violations = Axe().run(page).response["violations"]
            assert [entry["id"] for entry in violations if entry["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_prompts_view_leads_to_trying_it(page, server):
    digest = prompt_of(server, "pairs")["digest"]
    page.goto(f"{ORIGIN}/#{digest}")
    page.get_by_role("link", name="Try this prompt").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(digest)
    expect(page.get_by_label("premise")).to_be_visible()


def test_a_study_that_goes_on_updates_itself(page, server):
    page.goto(f"{ORIGIN}/#transfers")
    expect(page.get_by_text("No transfers are known here.")).to_be_visible()
    table = {"columns": ["start", "step"], "rows": [["plain tuning", 4]]}
    transfer = {"name": "out", "target": "toy", "table": table, "charts": [], "problems": [], "running": True}
    server.value = {**server.value, "transfers": [transfer], "problems": ["a study has gone"], "stamp": "another"}
    expect(page.get_by_role("heading", name="To toy")).to_be_visible()
    expect(page.get_by_text("a study has gone")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Updated")


# The browser logs a refusal as an error, which `opened` would not forgive: these open their page themselves.


def test_a_token_is_asked_for_and_kept_in_memory_alone(browser, server):
    server.token = "a secret of ours"
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", server)
    page.goto(f"{ORIGIN}/#try")
    expect(page.get_by_label("Token")).to_be_visible()
    assert [entry["id"] for entry in Axe().run(page).response["violations"] if entry["impact"] != "minor"] == []
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".error")).to_have_text("no such token")
    page.get_by_label("Token").fill(server.token)
    page.get_by_role("button", name="Go on").click()
    server.answers["/v1/classify"] = lambda body: classified({"no": 0.2, "yes": 0.8})
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer table")).to_be_visible()
    assert "SPOT_TOKEN" in page.locator("#request").inner_text() and server.token not in page.content()
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert server.token not in stored
    context.close()


def test_a_refusal_is_said_in_the_servers_words(browser, server):
    refusal = {"body": json.dumps({"error": {"message": "too many rows wait"}}), "status": 429}
    server.answers["/v1/classify"] = lambda body: {**refusal, "content_type": "application/json"}
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", server)
    page.goto(f"{ORIGIN}/#try/{prompt_of(server, 'reviews')['digest']}")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer .error")).to_have_text("too many rows wait")
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    context.close()
