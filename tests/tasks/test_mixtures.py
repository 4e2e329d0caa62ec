"""Mixtures: the paper's and users' own, their rates, and the members of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.config import TuneConfig, load_config
from spot.errors import ConfigError, TaskError
from spot.tasks import registry
from spot.tasks.mixtures import MIXTURES, Mixture, find_mixture, mixing_rates, tasks_of
from spot.tasks.registry import TABLE
from spot.tasks.splits import split_rows
from spot.training.run import members_of

CAP = 2**19
GLUE_SIZES = {
    "glue/mnli": 392_702,
    "glue/qqp": 363_849,
    "glue/qnli": 104_743,
    "glue/sst2": 67_349,
    "glue/cola": 8_551,
    "glue/stsb": 5_749,
    "glue/mrpc": 3_668,
    "glue/rte": 2_490,
}
GLUE_SHARES = {
    "glue/mnli": "41.4",
    "glue/qqp": "38.3",
    "glue/qnli": "11.0",
    "glue/sst2": "7.1",
    "glue/cola": "0.90",
    "glue/stsb": "0.61",
    "glue/mrpc": "0.39",
    "glue/rte": "0.26",
}


def percent(share: float) -> str:
    """As the paper's shares are written: two digits below 1 %, one above."""
    return f"{100 * share:.{2 if share < 0.01 else 1}f}"


def review_rows(path: Path, count: int) -> None:
    rows = [{"text": f"{path.stem} {n} is {('bad', 'fine')[n % 2]}", "label": n % 2} for n in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def task_file(folder: Path, name: str, count: int = 20, answers: bool = False) -> Path:
    rows = folder / f"{name}.jsonl"
    review_rows(rows, count)
    if answers:
        replies = (
            {**json.loads(line), "reply": f"reply {number}"}
            for number, line in enumerate(rows.read_text().splitlines())
        )
        rows.write_text("".join([f"{json.dumps(row)}\n" for row in [*replies]]))
    lines = [f'name = "{name}"', f'rows = "{name}.jsonl"', 'input = "sentence: {text}"']
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*lines, 'answer = "reply"' if answers else '[labels]\n0 = "bad"\n1 = "fine"']))
    return path


def mixture_file(folder: Path, tasks: list, *lines: str, name: str = "mine") -> Path:
    path = folder / "mixture.toml"
    path.write_text("\n".join([f'name = "{name}"', f"tasks = {json.dumps(tasks)}", *lines]))
    return path


def problem(path: Path) -> list[str]:
    """The mistakes that a mixture file is refused with."""
    with pytest.raises(TaskError) as caught:
        find_mixture(str(path))
    head, *mistakes = str(caught.value).split("\n  - ")
    assert head == f"{path} cannot be used:"
    return mistakes


# The paper's mixtures


def test_the_members_of_a_mixture_keep_what_is_asked_of_their_rows():
    members = tasks_of(MIXTURES["superglue"])
    asked = [member.instruction for member in members]
    assert asked == [TABLE[member.name].instruction for member in members] and all(asked)


def test_the_mixtures_of_table_1_have_the_papers_members():
    counts = {name: len(mixture.tasks) for name, mixture in MIXTURES.items()}
    assert counts == {
        "glue": 8,
        "superglue": 8,
        "nli": 9,
        "paraphrase": 4,
        "sentiment": 5,
        "mrqa": 6,
        "rainbow": 6,
        "translation": 3,
        "summarization": 9,
        "gem": 8,
        "all": 56,
    }  # nli: 7 in the paper, which counts the three rounds of ANLI once; all: C4 and 55 labelled sets
    assert "c4" in MIXTURES["all"].tasks
    assert not any(task.startswith("anli") for task in MIXTURES["glue"].tasks)
    for mixture in MIXTURES.values():
        assert len(set(mixture.tasks)) == len(mixture.tasks)
        assert mixture.outputs == "any" and mixture.rates == ()


@pytest.mark.parametrize("name", MIXTURES)
def test_every_member_is_a_known_task(name):
    assert set(MIXTURES[name].tasks) <= set(registry.names())
    assert find_mixture(f"mixture:{name}") is MIXTURES[name]
    assert MIXTURES[name].title == f"mixture:{name}"
    assert [task.name for task in tasks_of(MIXTURES[name])] == list(MIXTURES[name].tasks)


@pytest.mark.parametrize("name", ["glue/sst2", "squad", "nowhere", "nowhere.toml"])
def test_other_names_are_no_mixtures(name):
    assert find_mixture(name) is None


def test_an_unknown_mixture_is_refused_with_near_names():
    with pytest.raises(TaskError, match=r"no mixture 'superglu'; did you mean 'superglue' or 'glue'\?"):
        find_mixture("mixture:superglu")


def test_names_of_tasks_can_have_their_prefix():
    assert tasks_of(MIXTURES["paraphrase"])[0].revision != tasks_of(MIXTURES["paraphrase"], prefix=True)[0].revision


# Rates


def test_official_glue_sizes_give_the_papers_shares():
    found = mixing_rates(GLUE_SIZES, "proportional", CAP, 1.0)
    assert {name: percent(share) for name, share in zip(GLUE_SIZES, found, strict=True)} == GLUE_SHARES


def test_the_registry_gives_the_papers_shares_too():
    sizes = {task.name: task.size for task in tasks_of(MIXTURES["glue"])}
    found = mixing_rates(sizes, "proportional", CAP, 1.0)
    assert {name: percent(share) for name, share in zip(sizes, found, strict=True)} == GLUE_SHARES


SIZES = st.dictionaries(st.text(max_size=3), st.integers(1, 10**9), min_size=1, max_size=6)


@given(SIZES, st.integers(1, 10**7), st.floats(0.5, 8))
def test_the_cap_comes_before_the_temperature(sizes, cap, temperature):
    found = mixing_rates(sizes, "proportional", cap, temperature)
    raised = np.minimum(list(sizes.values()), cap) ** (1 / temperature)  # seqio's mixing_rate_num_examples
    np.testing.assert_allclose(found, raised / raised.sum(), rtol=1e-9)
    assert sum(found) == pytest.approx(1)
    assert set(mixing_rates(sizes, "equal", cap, temperature)) == {1 / len(sizes)}


def test_the_extremes_of_the_settings_give_shares():
    sizes = {"a": 1, "b": 10**18}
    assert 0 < mixing_rates(sizes, "proportional", 10**18, 0.1)[0] < 1e-100
    np.testing.assert_allclose(mixing_rates(sizes, "proportional", 10**18, 1e300), 0.5)
    np.testing.assert_allclose(mixing_rates(sizes, "proportional", 1, 1.0), 0.5)


def test_a_task_without_rows_or_size_is_named():
    with pytest.raises(TaskError, match="'b' has no train row: expected at least one"):
        mixing_rates({"a": 3, "b": 0}, "equal", CAP, 1.0)
    with pytest.raises(TaskError, match=r"of 'b' is not known, and sizes = 'official'.*Give sizes=rows"):
        mixing_rates({"a": 3, "b": None}, "proportional", CAP, 1.0)
    assert mixing_rates({"a": 3, "b": None}, "equal", CAP, 1.0) == (0.5, 0.5)


def test_the_settings_are_checked():
    config = TuneConfig(task="mixture:glue")
    assert (config.mixing, config.mixing_cap, config.temperature, config.sizes) == ("proportional", 2**19, 1.0, "rows")
    wrong = ["mixing=propotional", "mixing_cap=0", "temperature=0", "sizes=offical"]
    with pytest.raises(ConfigError, match="4 mistakes") as caught:
        load_config(TuneConfig, overrides=["task=mixture:glue", *wrong])
    for part in ("did you mean 'proportional'", "mixing_cap is 0", "temperature is 0", "did you mean 'official'"):
        assert part in str(caught.value)


# Users' mixtures


def test_a_file_names_tasks_and_task_files_beside_it(tmp_path):
    task_file(tmp_path / "tasks", "reviews")
    path = mixture_file(tmp_path, ["cr", "tasks/reviews.toml"], "[rates]", '"tasks/reviews.toml" = 3', "cr = 1")
    found = find_mixture(str(path))
    assert found == Mixture("mine", ("cr", str(tmp_path / "tasks/reviews.toml")), (0.25, 0.75), "same")
    assert [task.name for task in tasks_of(found)] == ["cr", "reviews"]


def test_a_task_file_and_a_broken_file_are_no_mixtures(tmp_path):
    assert find_mixture(str(task_file(tmp_path, "reviews"))) is None
    for number, text in enumerate((b"name = ", b"\xff", b'name = "x"')):
        broken = tmp_path / f"{number}.toml"
        broken.write_bytes(text)
        assert find_mixture(str(broken)) is None


def test_all_mistakes_of_a_file_come_at_once(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(
        'nmae = "x"\ntasks = ["cr", "glue/sst", "cr", "mixture:glue", 3, "gone.toml"]\noutputs = "al"\n'
        '[rates]\ncr = -1\nsubj = 2\n"glue/sst" = true\n'
    )
    mistakes = problem(path)
    for part in (
        "unknown key 'nmae'; did you mean 'name'?",
        "no key 'name', which every mixture file has",
        "outputs is 'al', expected 'same' or 'any'",
        "tasks holds the unknown task 'glue/sst'; did you mean 'glue/sst2'",
        "tasks holds 'cr' more than once",
        "tasks holds the mixture 'mixture:glue', expected single tasks",
        "tasks holds 3, expected the name of a task",
        f"tasks holds the unknown task 'gone.toml'; there is no file {tmp_path / 'gone.toml'}",
        "rates has 'subj', which is not under tasks",
        "rates has no 'mixture:glue'; give each task a rate, or none",
        "rates: cr is -1, expected a number above 0 and at most 1e+12",
        "rates: glue/sst is True, expected a number above 0",
    ):
        assert any(part in mistake for mistake in mistakes), part
    assert len(mistakes) == 13  # `gone.toml` has no rate either


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "x"\ntasks = ["cr"]', "tasks lists 1, expected at least two"),
        ('name = "x"\ntasks = []', "tasks lists 0, expected at least two"),
        ('name = "x"\noutputs = "any"', "no key 'tasks', which every mixture file has"),
        ('name = "x"\ntasks = "cr"', "tasks is 'cr', expected a list of tasks"),
        ('name = "x"\ntasks = ["cr", ""]', "tasks holds '', expected the name"),
        ('name = 3\ntasks = ["cr", "mr"]', "name is 3, expected text"),
        ('name = "a b"\ntasks = ["cr", "mr"]', "name is 'a b', expected letters, digits"),
        ('name = "glue"\ntasks = ["cr", "mr"]', "name is 'glue', which is a known mixture's"),
        ('name = "x"\ntasks = ["cr", "mr"]\nrates = 2', "rates is 2, expected a table"),
        ('name = "x"\ntasks = ["cr", "mr"]\nrates = {cr = 0, mr = 1}', "rates: cr is 0, expected a number above 0"),
        ('name = "x"\ntasks = ["cr", "mr"]\nrates = {cr = nan, mr = 1}', "rates: cr is nan, expected"),
        ('name = "x"\ntasks = ["cr", "mr"]\nrates = {cr = inf, mr = 1}', "rates: cr is inf, expected"),
        (f'name = "x"\ntasks = ["cr", "mr"]\nrates = {{cr = {10**400}, mr = 1}}', "expected a number above 0"),
        ('name = "x"\ntasks = ["cr", "mr"]\nrates = {cr = 1}', "rates has no 'mr'"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, expected):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    mistakes = problem(path)
    assert expected in mistakes[0]
    if "name = 3" not in text:
        assert len(mistakes) == 1


def test_a_mixture_file_inside_a_mixture_is_refused(tmp_path):
    inner = mixture_file(tmp_path, ["cr", "mr"]).rename(tmp_path / "inner.toml")
    assert find_mixture(str(inner)) is not None
    (mistake,) = problem(mixture_file(tmp_path, ["inner.toml", "cr"]))
    assert "tasks holds the mixture 'inner.toml', expected single tasks" in mistake


def test_one_file_under_two_spellings_is_a_task_twice(tmp_path):
    task_file(tmp_path, "reviews")
    (mistake,) = problem(mixture_file(tmp_path, ["reviews.toml", f"../{tmp_path.name}/reviews.toml"]))
    assert "more than once" in mistake


def test_two_tasks_of_one_name_are_refused(tmp_path):
    task_file(tmp_path, "reviews")
    task_file(tmp_path / "other", "reviews")
    mixture = find_mixture(str(mixture_file(tmp_path, ["reviews.toml", "other/reviews.toml"])))
    with pytest.raises(TaskError, match="mixture:mine: 'reviews' is the name of more than one of its tasks"):
        tasks_of(mixture)


def test_forms_of_answers_are_mixed_only_when_asked_for(tmp_path):
    tasks = ["cr", "squad", "glue/stsb"]
    with pytest.raises(TaskError, match=r"\(label: cr; text: squad; number: glue/stsb\).*outputs = \"any\""):
        tasks_of(find_mixture(str(mixture_file(tmp_path, tasks))))
    assert len(tasks_of(find_mixture(str(mixture_file(tmp_path, tasks, 'outputs = "any"'))))) == 3


def test_open_answers_of_a_task_file_are_no_labels(tmp_path):
    task_file(tmp_path, "open", answers=True)
    with pytest.raises(TaskError, match=r"\(label: cr; text: open\)"):
        tasks_of(find_mixture(str(mixture_file(tmp_path, ["cr", "open.toml"]))))


# The members of a run


def run_config(task: object, **values) -> TuneConfig:
    return TuneConfig(**{"task": str(task), "select_rows": 5, "report_rows": 4, **values})


def test_a_single_task_is_one_member_without_a_name(tmp_path):
    path = task_file(tmp_path, "reviews", 60)
    (member,), name = members_of(run_config(path, train_rows=7, rows_seed=3), None)
    assert name == "" and member.rate == 1
    assert member.splits == split_rows(registry.get(path), 7, 5, 4, 3)


def test_a_mixtures_members_have_rows_and_rates_of_their_own(tmp_path):
    data = tmp_path / "data"
    for name, count in {"cr": 30, "mr": 10}.items():
        for split in registry.TABLE[name].splits:
            review_rows(data / registry.TABLE[name].folder / f"{split}.jsonl", count if split == "train" else 20)
    for path in data.rglob("*.jsonl"):  # else equal texts stand in several splits
        path.write_text(path.read_text().replace("is", f"of {path.stem} is"))
    path = mixture_file(tmp_path, ["cr", "mr"])
    members, name = members_of(run_config(path), data)
    assert name == "mixture:mine" and [member.task.name for member in members] == ["cr", "mr"]
    assert [len(member.splits.train) for member in members] == [30, 10]
    assert [member.rate for member in members] == pytest.approx([0.75, 0.25])
    for member in members:
        assert member.splits == split_rows(registry.get(member.task.name, data), None, 5, 4, 0)

    def shares(*lines: str, **values) -> list[float]:
        return [
            part.rate
            for part in members_of(run_config(mixture_file(tmp_path, ["cr", "mr"], *lines), **values), data)[0]
        ]

    assert shares(train_rows=15) == pytest.approx([0.6, 0.4])  # the rows used
    assert shares(mixing_cap=20) == pytest.approx([2 / 3, 1 / 3])
    assert shares(temperature=2.0) == pytest.approx([3**0.5 / (3**0.5 + 1), 1 / (3**0.5 + 1)])
    assert shares(mixing="equal") == [0.5, 0.5]
    assert shares("[rates]", "cr = 1", "mr = 9", mixing="equal") == pytest.approx([0.1, 0.9])
    prefixed = members_of(run_config(path, task_prefix=True), data)[0][0].splits.train[0]
    assert prefixed.inputs == f"cr {members[0].splits.train[0].inputs}"


def test_official_sizes_are_the_data_sets_own(tmp_path):
    rows = {
        "cxc": lambda n: {"sentence1": f"a {n}", "sentence2": f"b {n}", "score": n % 5},
        "glue/mrpc": lambda n: {"sentence1": f"c {n}", "sentence2": f"d {n}", "label": n % 2},
        "glue/qqp": lambda n: {"question1": f"e {n}", "question2": f"f {n}", "label": n % 2},
        "glue/stsb": lambda n: {"sentence1": f"g {n}", "sentence2": f"h {n}", "label": float(n % 5)},
    }
    for name, make in rows.items():
        folder = tmp_path / (registry.TABLE[name].folder or name.replace("/", "_"))
        folder.mkdir()
        for start, split in enumerate(registry.TABLE[name].splits):
            lines = (json.dumps({"idx": n, **make(100 * start + n)}) + "\n" for n in range(20))
            (folder / f"{split}.jsonl").write_text("".join(lines))
    members, name = members_of(run_config("mixture:paraphrase", sizes="official"), tmp_path)
    assert name == "mixture:paraphrase"
    wanted = [88_054, 3_668, 363_849, 5_749]
    np.testing.assert_allclose([member.rate for member in members], np.array(wanted) / sum(wanted), rtol=1e-4)
    assert {len(member.splits.train) for member in members} == {20}
    equal = members_of(run_config("mixture:paraphrase"), tmp_path)[0]
    assert [member.rate for member in equal] == pytest.approx([0.25] * 4)


def test_a_users_task_has_no_official_size(tmp_path):
    task_file(tmp_path, "one")
    task_file(tmp_path, "two")
    path = mixture_file(tmp_path, ["one.toml", "two.toml"])
    with pytest.raises(TaskError, match="train rows of 'one', 'two' is not known"):
        members_of(run_config(path, sizes="official"), None)


def test_a_member_without_train_rows_is_refused(tmp_path):
    task_file(tmp_path, "full")
    path = task_file(tmp_path, "shadowed")
    review_rows(tmp_path / "same.jsonl", 2)
    text = path.read_text().replace(
        'rows = "shadowed.jsonl"', 'rows = {train = "same.jsonl", test = "full.jsonl", validation = "again.jsonl"}'
    )
    (tmp_path / "again.jsonl").write_text((tmp_path / "same.jsonl").read_text())
    path.write_text(text)
    with pytest.raises(TaskError, match="shadowed has no row left for train"):
        members_of(run_config(mixture_file(tmp_path, ["full.toml", "shadowed.toml"])), None)
