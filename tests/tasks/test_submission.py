"""Files for the benchmark servers: their bytes written out by hand, full sets, and every way to hand in too little."""

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks import registry
from spot.tasks.submission import SHEETS, Sheet, check_submission, read_predictions, sheets_of, write_submission
from tests.support.data_rows import write_jsonl

# One prediction of each test set, the id it belongs to, and the line that the server reads.
GLUE = {
    "cola": ("acceptable", "0\t1"),
    "sst2": ("negative", "0\t0"),
    "mrpc": ("equivalent", "0\t1"),
    "stsb": ("3.80", "0\t3.8"),
    "qqp": ("not_duplicate", "0\t0"),
    "mnli": ("contradiction", "0\tcontradiction"),
    "mnli_mismatched": ("neutral", "0\tneutral"),
    "qnli": ("not_entailment", "0\tnot_entailment"),
    "rte": ("entailment", "0\tentailment"),
    "wnli": ("entailment", "0\t1"),
    "ax": ("neutral", "0\tneutral"),
}
SUPERGLUE = {
    "boolq": ("True", '{"idx": 0, "label": "true"}'),
    "cb": ("contradiction", '{"idx": 0, "label": "contradiction"}'),
    "copa": ("choice2", '{"idx": 0, "label": 1}'),
    "multirc": ("True", '{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 1}]}]}}'),
    "record": ("St. John's", '{"idx": 0, "label": "St. John\'s"}'),
    "rte": ("not_entailment", '{"idx": 0, "label": "not_entailment"}'),
    "wic": ("False", '{"idx": 0, "label": "false"}'),
    "wsc": ("False", '{"idx": 0, "label": "False"}'),
    "axb": ("entailment", '{"idx": 0, "label": "entailment"}'),
    "axg": ("entailment", '{"idx": 0, "label": "entailment"}'),
}
WANTED = {"glue": GLUE, "superglue": SUPERGLUE}
FIRST = {"multirc": {"paragraph": 0, "question": 0, "answer": 0}, "record": {"passage": 0, "query": 0}}


def small(benchmark: str) -> dict[str, list[tuple[object, str]]]:
    """A whole submission with one row a test set."""
    return {f"{benchmark}/{name}": [(FIRST.get(name, 0), said)] for name, (said, _) in WANTED[benchmark].items()}


def whole(sheet: Sheet) -> list[tuple[object, str]]:
    """As many rows as the official test set has, last one first, with answers that go round."""
    words = list(sheet.written) or (["0.0", "2.2", "5"] if sheet.kind == "number" else ["Ann", "é \u2028 B"])
    ids = range(sheet.rows - 1, -1, -1)
    if sheet.stem == "multirc":
        keys = [{"paragraph": number // 60, "question": number // 6, "answer": number} for number in ids]
    elif sheet.stem == "record":
        keys = [{"passage": number // 3, "query": number} for number in ids]
    else:
        keys = list(ids)
    return [(key, words[number % len(words)]) for number, key in enumerate(keys)]


def stem(sheet: Sheet) -> str:
    return sheet.task.partition("/")[2]


@pytest.mark.parametrize("benchmark", SHEETS)
def test_each_file_holds_the_lines_that_the_server_reads(benchmark: str, tmp_path: Path):
    counts = write_submission(benchmark, small(benchmark), tmp_path, official=False)
    for sheet in SHEETS[benchmark]:
        head = "index\tprediction\n" if benchmark == "glue" else ""
        assert (tmp_path / sheet.name).read_text() == f"{head}{WANTED[benchmark][stem(sheet)][1]}\n", sheet.name
    assert counts == {sheet.name: 1 for sheet in SHEETS[benchmark]} == check_submission(tmp_path, official=False)


def test_the_names_of_the_files_are_the_servers():
    names = [[Path(sheet.name).stem for sheet in SHEETS[benchmark]] for benchmark in ("glue", "superglue")]
    assert set(names[0]) == set("CoLA SST-2 MRPC STS-B MNLI-m MNLI-mm QNLI QQP RTE WNLI AX".split())
    assert set(names[1]) == set("BoolQ CB COPA MultiRC ReCoRD RTE WiC WSC AX-b AX-g".split())


def test_the_diagnostic_sets_are_answered_by_the_prompts_of_mnli_and_rte():
    shared = {sheet.name: sheet.source for sheets in SHEETS.values() for sheet in sheets if sheet.source != sheet.task}
    assert shared == {
        "MNLI-mm.tsv": "glue/mnli",
        "AX.tsv": "glue/mnli",
        "AX-b.jsonl": "superglue/rte",
        "AX-g.jsonl": "superglue/rte",
    }


def test_a_full_superglue_submission_is_sorted_nested_and_zipped(tmp_path: Path):
    given = {sheet.task: whole(sheet) for sheet in SHEETS["superglue"]}
    counts = write_submission("superglue", given, tmp_path)
    assert counts["MultiRC.jsonl"] == 9693 and sum(counts.values()) == 29694
    assert check_submission(tmp_path) == counts
    records = [json.loads(line) for line in (tmp_path / "ReCoRD.jsonl").read_text().split("\n")[:-1]]
    assert [record["idx"] for record in records] == list(range(10000))
    assert {record["label"] for record in records} == {"Ann", "é \u2028 B"}

    passages = [json.loads(line) for line in (tmp_path / "MultiRC.jsonl").read_text().splitlines()]
    assert [passage["idx"] for passage in passages] == list(range(162))
    questions = [question for passage in passages for question in passage["passage"]["questions"]]
    assert [question["idx"] for question in questions] == list(range(1616))
    labels = {row["idx"]: row["label"] for question in questions for row in question["answers"]}
    assert labels == {key["answer"]: ("False", "True").index(said) for key, said in given["superglue/multirc"]}

    with zipfile.ZipFile(tmp_path / "superglue.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            sheet.name: (tmp_path / sheet.name).read_bytes() for sheet in SHEETS["superglue"]
        }


def test_a_full_glue_submission_is_accepted(tmp_path: Path):
    given = {sheet.task: whole(sheet) for sheet in SHEETS["glue"]}
    assert write_submission("glue", given, tmp_path) == check_submission(tmp_path)
    head, first = (tmp_path / "STS-B.tsv").read_text().splitlines()[:2]
    assert (head, first) == ("index\tprediction", "0\t2.2")


def test_equal_predictions_give_equal_bytes(tmp_path: Path):
    for folder, turn in (("a", 1), ("b", -1)):
        given = {name: rows[::turn] for name, rows in list(small("superglue").items())[::turn]}
        write_submission("superglue", given, tmp_path / folder, official=False)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 11
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: given.pop("glue/wnli"), "no predictions for glue/wnli"),
        (
            lambda given: given.update({"glue/boolq": [(0, "True")]}),
            "'glue/boolq' is no test set of glue; did you mean",
        ),
        (lambda given: given.update({"glue/cola": []}), "glue/cola has no rows"),
        (lambda given: given["glue/cola"].append((0, "acceptable")), "glue/cola: more than once: idx 0"),
        (lambda given: given["glue/cola"].append((2, "acceptable")), "glue/cola: missing: idx 1; expected 0 to 2"),
        (
            lambda given: given["glue/cola"].append((10**12, "acceptable")),
            "glue/cola: missing: idx 1, 2, 3, 4, 5 and 999999999994 more; expected 0 to 1000000000000",
        ),
        (
            lambda given: given["glue/cola"].append((1, "positive")),
            "glue/cola: no prediction: positive; expected unacceptable, acceptable",
        ),
        (lambda given: given["glue/cola"].append((True, "acceptable")), "row 2: the idx is not a number from 0"),
        (lambda given: given["glue/cola"].append((-1, "acceptable")), "row 2: the idx is not a number from 0"),
        (lambda given: given["glue/cola"].append(("1", "acceptable")), "row 2: the idx is not a number from 0"),
        (
            lambda given: given["glue/stsb"].append((1, "many")),
            "glue/stsb: no prediction: many; expected a number from",
        ),
        (
            lambda given: given["glue/stsb"].append((1, "5.2")),
            "glue/stsb: no prediction: 5.2; expected a number from 0 ",
        ),
        (
            lambda given: given["glue/stsb"].append((1, "nan")),
            "glue/stsb: no prediction: nan; expected a number from 0 ",
        ),
    ],
)
def test_what_is_no_submission_is_refused_and_nothing_is_written(change, said: str, tmp_path: Path):
    given = small("glue")
    change(given)
    with pytest.raises(TaskError) as refusal:
        write_submission("glue", given, tmp_path / "out", official=False)
    assert said in str(refusal.value) and str(refusal.value).count("\n- ") == 1
    assert not (tmp_path / "out").exists()


def test_rows_that_the_server_has_and_the_predictions_lack_are_counted(tmp_path: Path):
    with pytest.raises(TaskError) as refusal:
        write_submission("superglue", small("superglue"), tmp_path)
    lines = [line for line in str(refusal.value).splitlines() if line.startswith("- ")]
    assert len(lines) == len(SHEETS["superglue"])
    assert "- superglue/cb: missing: idx 1, 2, 3, 4, 5 and 244 more; expected 0 to 249" in lines
    given = {sheet.task: whole(sheet) for sheet in SHEETS["superglue"]}
    given["superglue/cb"] = [(250 if id_ == 249 else id_, said) for id_, said in given["superglue/cb"]]
    with pytest.raises(TaskError) as refusal:
        write_submission("superglue", given, tmp_path)
    assert "missing: idx 249; expected 0 to 249\n- superglue/cb: unknown: idx 250; " in str(refusal.value)


@pytest.mark.parametrize("id_", [0, {"question": 0, "answer": 0}, {"paragraph": 0, "question": "0", "answer": 0}])
def test_multirc_needs_the_three_numbers_of_an_answer(id_: object, tmp_path: Path):
    given = {**small("superglue"), "superglue/multirc": [(id_, "True")]}
    with pytest.raises(TaskError, match="row 1: the idx is not an object with paragraph, question, answer"):
        write_submission("superglue", given, tmp_path, official=False)


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(TaskError, match=r"no benchmark 'gleu'; did you mean 'glue'"):
        sheets_of("gleu")


# Files that lie in a folder.


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("COPA.jsonl", '"label": 1', '"label": true', "COPA.jsonl: no prediction: True; expected 0, 1"),
        ("BoolQ.jsonl", '"true"', '"True"', "BoolQ.jsonl: no prediction: True; expected false, true"),
        ("WSC.jsonl", '"False"', "false", "WSC.jsonl: no prediction: False; expected False, True"),
        ("ReCoRD.jsonl", '"St. John\'s"', "1", "ReCoRD.jsonl: no prediction: 1"),
        ("CB.jsonl", '"idx": 0', '"idx": 1', "CB.jsonl: missing: idx 0; expected 0 to 1"),
        ("CB.jsonl", '"idx"', '"id"', "CB.jsonl is damaged (KeyError('idx'))"),
        ("CB.jsonl", "}", "", "CB.jsonl is damaged (JSONDecodeError"),
        ("CB.jsonl", '{"idx": 0, "label": "contradiction"}', "3", "CB.jsonl is damaged (TypeError"),
        (
            "MultiRC.jsonl",
            '"answers": [',
            '"answers": [{"idx": 0, "label": 0}, ',
            "MultiRC.jsonl: more than once: idx 0",
        ),
        ("MultiRC.jsonl", '"questions"', '"question"', "MultiRC.jsonl is damaged"),
    ],
)
def test_damaged_superglue_files_are_found(name: str, old: str, new: str, said: str, tmp_path: Path):
    write_submission("superglue", small("superglue"), tmp_path, official=False)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(TaskError) as refusal:
        check_submission(tmp_path, official=False)
    assert said in str(refusal.value) and str(refusal.value).count("\n- ") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index\tlabel\n0\t1\n", "CoLA.tsv is damaged (ValueError"),
        ("", "CoLA.tsv is damaged (ValueError"),
        ("index\tprediction\n", "CoLA.tsv has no rows"),
        ("index\tprediction\n0\n", "CoLA.tsv is damaged (ValueError"),
        ("index\tprediction\none\t1\n", "CoLA.tsv is damaged (ValueError"),
        ("index\tprediction\n0\t1\n-1\t0\n", "CoLA.tsv, row 2: the idx is not a number from 0"),
        ("index\tprediction\n0\tacceptable\n", "CoLA.tsv: no prediction: acceptable; expected 0, 1"),
        (None, "CoLA.tsv is missing"),
    ],
)
def test_damaged_glue_files_are_found(text: str | None, said: str, tmp_path: Path):
    write_submission("glue", small("glue"), tmp_path, official=False)
    (tmp_path / "CoLA.tsv").write_text(text) if text is not None else (tmp_path / "CoLA.tsv").unlink()
    with pytest.raises(TaskError) as refusal:
        check_submission(tmp_path, official=False)
    assert said in str(refusal.value) and str(refusal.value).count("\n- ") == 1


def test_a_folder_without_any_file_of_a_submission_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TaskError, match=r"holds no file of a submission: expected such as CoLA\.tsv"):
        check_submission(tmp_path)


# Predictions read from files.


def test_predictions_are_read_with_their_ids_or_in_their_order(tmp_path: Path):
    write_jsonl(
        tmp_path / "cola.jsonl", [{"idx": 7, "label": "acceptable"}, {"idx": 3, "label": "x", "probabilities": {}}]
    )
    write_jsonl(tmp_path / "rte.jsonl", [{"label": "entailment", "task": "glue/rte"}, {"label": "not_entailment"}])
    write_jsonl(tmp_path / "ax.jsonl", [{"idx": 0, "label": "neutral", "task": "glue/mnli"}])
    write_jsonl(tmp_path / "stsb.jsonl", [{"idx": 0, "label": 3.2}, {"idx": 1, "text": "4"}])
    (tmp_path / "notes.txt").write_text("not rows")
    assert read_predictions("glue", tmp_path) == {
        "glue/cola": [(7, "acceptable"), (3, "x")],
        "glue/rte": [(0, "entailment"), (1, "not_entailment")],
        "glue/ax": [(0, "neutral")],
        "glue/stsb": [(0, "3.2"), (1, "4")],
    }


def test_free_predictions_for_wsc_become_labels_by_the_referent(tmp_path: Path):
    rows = [("the fuzzy bunny", "bunny"), ("Bob", "Bob's hat"), ("", "bunny"), ("True", None)]
    write_jsonl(tmp_path / "wsc.jsonl", ({"idx": n, "text": t, "span1_text": r} for n, (t, r) in enumerate(rows)))
    assert [said for _, said in read_predictions("superglue", tmp_path)["superglue/wsc"]] == [
        "True",
        "False",
        "False",
        "True",
    ]
    write_jsonl(tmp_path / "wsc.jsonl", [{"idx": 0, "text": "the bunny"}])
    with pytest.raises(TaskError, match=r"line 1: a free prediction for WSC needs the referent .*'span1_text'"):
        read_predictions("superglue", tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("boolq.jsonl", [{"label": "True"}], "named after no test set of glue; known: ax, cola"),
        (
            "rte.jsonl",
            [{"label": "entailment", "task": "glue/qnli"}],
            "line 1: found a prediction for the task 'glue/qnli'",
        ),
        ("rte.jsonl", [{"idx": 0, "label": "entailment"}, {"label": "entailment"}], "line 2 has no field 'idx'"),
        (
            "rte.jsonl",
            [{"idx": 0, "answer": "entailment"}],
            "line 1: found the fields 'idx', 'answer', expected the pre",
        ),
        (
            "rte.jsonl",
            [{"idx": 0, "label": 1}],
            "line 1: found the fields 'idx', 'label', expected the prediction as tex",
        ),
        ("rte.jsonl", [], "rte.jsonl is empty"),
        ("rte.jsonl", [3], "line 1: found '3', expected a JSON object"),
    ],
)
def test_files_of_other_predictions_are_refused(name: str, rows: list[object], said: str, tmp_path: Path):
    write_jsonl(tmp_path / name, rows)
    with pytest.raises(TaskError) as refusal:
        read_predictions("glue", tmp_path)
    assert said in str(refusal.value)


def test_multirc_is_never_read_in_order(tmp_path: Path):
    write_jsonl(tmp_path / "multirc.jsonl", [{"label": "True"}])
    with pytest.raises(TaskError, match="line 1 has no field 'idx'"):
        read_predictions("superglue", tmp_path)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_text_for_record_comes_back_from_its_file(texts: list[str]):
    with tempfile.TemporaryDirectory() as folder:
        rows = [({"passage": 0, "query": number}, text) for number, text in enumerate(texts)]
        write_submission("superglue", {**small("superglue"), "superglue/record": rows}, folder, official=False)
        assert check_submission(folder, official=False)["ReCoRD.jsonl"] == len(texts)
        lines = (Path(folder) / "ReCoRD.jsonl").read_text(encoding="ascii").splitlines()
        assert [json.loads(line)["label"] for line in lines] == texts


def test_the_label_words_are_those_of_the_tasks(shared: Path):
    labelled = [sheet for sheets in SHEETS.values() for sheet in sheets if sheet.written and sheet.stem != "wsc"]
    for sheet in labelled:
        for name in {sheet.task, sheet.source} & set(registry.names()):
            assert set(registry.get(name, shared / "data").labels) == set(sheet.written), name
    assert len({sheet.source for sheet in labelled} & set(registry.names())) >= 11
