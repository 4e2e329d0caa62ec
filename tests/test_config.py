"""Configurations: every mistake at once, digests, and the way to TOML and back."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from spot.config import (
    LARGEST_RATE,
    LATER,
    TransferConfig,
    TuneConfig,
    digest,
    load_config,
    names_prompt,
    read_budget,
    to_toml,
)
from spot.errors import ConfigError
from spot.training.optimisers import ParameterGroup, make_optimiser


def complaint(path: Path | None, *overrides: str) -> list[str]:
    """The lines of the error that a configuration gives."""
    with pytest.raises(ConfigError) as caught:
        load_config(TuneConfig, path, overrides)
    return str(caught.value).split("\n")


def test_defaults_file_and_overrides(tmp_path: Path) -> None:
    """Later sources win over earlier ones, the last of several overrides too."""
    path = tmp_path / "tune.toml"
    path.write_text('task = "cr"\nsteps = 50\nlength = 10\n')
    config = load_config(TuneConfig, path, ["steps=60", "steps = 70", "learning_rate=1e-3"])
    assert (config.task, config.steps, config.length, config.learning_rate) == ("cr", 70, 10, 0.001)
    assert config.batch_size == 16 and config.backbone == "embedded" and config.key_step is None


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    """File and overrides, unknown keys and bad values, each with the place where it stands."""
    path = tmp_path / "tune.toml"
    path.write_text('step = 50\nlength = 0\noptimiser = "adam"\nbatch_size = "16"\ntruncate = 3\n')
    overrides = ["learning_rat=0.1", "weight_decay=1.5", "steps=many", "key_step", "init=vocab"]
    count, *lines = complaint(path, *overrides)
    assert count == "11 mistakes in the configuration:"
    starts = [
        "  override 'key_step': expected key=value, as in task=VALUE",
        f"  task is missing; set it in {path} or give task=VALUE",
        "  override 'steps=many': steps is 'many'; it should be ",
        f"  {path}: length is 0; it should be ",
        f"  {path}: batch_size is '16'; it should be ",
        f"  {path}: optimiser is 'adam'; it should be ",
        "  override 'weight_decay=1.5': weight_decay is 1.5; it should be ",
        "  override 'init=vocab': init is 'vocab'; it should be one of vocabulary, classes, uniform, ",
        f"  {path}: truncate is 3; it should be ",
        f"  {path}: unknown key 'step'; did you mean 'steps' or 'key_step' or 'first_step'?",
        "  override 'learning_rat=0.1': unknown key 'learning_rat'; did you mean 'learning_rate' or ",
    ]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    near = [line.rpartition("did you mean ")[2] for line in lines if "did you mean" in line]
    assert near[:2] == ["'adamw'?", "'vocabulary'?"]


def test_one_mistake_is_one() -> None:
    """The singular, and no file to name."""
    assert complaint(None, "steps=10") == [
        "1 mistake in the configuration:",
        "  task is missing; set it in a configuration file or give task=VALUE",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; check the path"),
        (b"task = cr\n", "not valid TOML: Invalid value (at line 1, column 8); texts need quotes, as in"),
        (b"task = 'caf\xe9'\n", "byte 11 is not UTF-8; save the file as UTF-8"),
        (b"steps = " + b"9" * 5_000, "not valid TOML: "),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    """It is named, the overrides are still checked, and what it leaves out is not held against the user."""
    path = tmp_path / "tune.toml"
    if content is not None:
        path.write_bytes(content)
    lines = complaint(path, "length=0")
    assert lines[0] == "2 mistakes in the configuration:"
    assert lines[1].startswith(f"  {path}: {message}")
    assert lines[2].startswith("  override 'length=0': length is 0; it should be")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Nor are a FIFO, which would hang, and a file without end."""
    assert complaint(tmp_path)[1].startswith(f"  cannot read {tmp_path}: it is a folder, expected a regular file.")
    os.mkfifo(tmp_path / "fifo")
    assert "it is a FIFO" in complaint(tmp_path / "fifo")[1]
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 10**12)
    assert "expected at most 4,000,000" in complaint(tmp_path / "endless")[1]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "tune.toml").write_bytes(b'\xef\xbb\xbftask = "cr"\n')
    assert load_config(TuneConfig, tmp_path / "tune.toml").task == "cr"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("task=glue/sst2", "task", "glue/sst2"),
        ('task="glue/sst2"', "task", "glue/sst2"),
        ("task=2024", "task", "2024"),
        ("task=2024-01-01", "task", "2024-01-01"),
        ("init=text:is it = good?", "init", "text:is it = good?"),
        ("init=out/a.safetensors", "init", "out/a.safetensors"),
        ("init=text:good and/or bad", "init", "text:good and/or bad"),
        ("init=runs/reviews", "init", "runs/reviews"),
        ("init=packaged:cr", "init", "packaged:cr"),
        ("gradient_checkpointing=true", "gradient_checkpointing", True),
        ("learning_rate=1", "learning_rate", 1.0),
        ("learning_rate=3e-1", "learning_rate", 0.3),
        ("first_step=1_100_000", "first_step", 1_100_000),
        ("key_step=none", "key_step", None),
        ("train_rows=None", "train_rows", None),
        ("train_rows=100", "train_rows", 100),
    ],
)
def test_values_of_overrides(override: str, key: str, value: object) -> None:
    """TOML where the text is TOML, plain text otherwise, in the type that the key wants."""
    config = load_config(TuneConfig, None, ["task=cr", "key_step=40", override])
    assert getattr(config, key) == value
    assert type(getattr(config, key)) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=-1", "steps is -1; it should"),
        ("steps=1.5", "steps is 1.5; it should"),
        ("steps=true", "steps is True; it should"),
        ("steps=none", "steps is 'none'; it should"),
        ("learning_rate=0", "learning_rate is 0; it should"),
        ("learning_rate=nan", "learning_rate is nan; it should"),
        ("learning_rate=inf", "learning_rate is inf; it should"),
        ("weight_decay=-0.1", "weight_decay is -0.1; it should"),
        ("seed=-1", "seed is -1; it should"),
        ("train_rows=0", "train_rows is 0; it should"),
        ("backbone=", "backbone is ''; it should"),
        ("init=text: ", "init is 'text:'; it should be one of"),
        ("init=packaged:", "init is 'packaged:'; it should be one of"),
        ("init=shipped:cr", "init is 'shipped:cr'; it should be one of"),
        ("key_step=201", "key_step is 201; it should be at most steps = 200, or the run ends before it"),
        ("eval_every=0", "eval_every is 0; it should"),
        ("tune.steps=5", "unknown key 'tune.steps'; did you mean 'steps' or 'decay_steps' or 'truncate'?"),
    ],
)
def test_bad_values(override: str, message: str) -> None:
    """Bounds, types and texts of the messages."""
    (line,) = complaint(None, "task=cr", override)[1:]
    assert line.startswith(f"  override {override!r}: {message}")


def test_a_start_may_be_the_folder_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare word is taken for one where such a folder is."""
    monkeypatch.chdir(tmp_path)
    assert complaint(None, "task=cr", "init=run")[1].startswith("  override 'init=run': init is 'run'; it should be")
    (tmp_path / "run").mkdir()
    assert load_config(TuneConfig, None, ["task=cr", "init=run"]).init == "run"


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_the_largest_learning_rate_is_one_that_the_optimisers_take(optimiser: str) -> None:
    """Steps with it may diverge, which the loop reports; an error of torch would be no message for a user."""
    weights = torch.ones(2, 3, requires_grad=True)
    group = ParameterGroup(tensors=[weights], learning_rate=LARGEST_RATE, weight_decay=0.999)
    made = make_optimiser(optimiser, [group])
    for _ in range(3):
        weights.grad = torch.full((2, 3), 0.5)
        made.step()
    assert not torch.equal(weights, torch.ones(2, 3))


def test_every_field_is_described() -> None:
    """The descriptions are the help texts of the command line."""
    assert all(field.description for field in TuneConfig.model_fields.values())


def test_frozen() -> None:
    """A configuration is a value."""
    config = TuneConfig(task="cr")
    with pytest.raises(ValidationError, match="frozen"):
        config.steps = 3


def test_digest_is_that_of_canonical_json(tmp_path: Path) -> None:
    """An independent computation; the order of keys in the file makes no difference, every value does."""
    config = TuneConfig(task="cr", steps=3)
    known = {name: value for name, value in json.loads(config.model_dump_json()).items() if name not in LATER}
    content = [dict(sorted(known.items())), "data", "code"]
    text = json.dumps(content, separators=(",", ":"))
    assert digest(config, "data", "code") == hashlib.sha256(text.encode()).hexdigest()[:16]
    for name, lines in (("a", ['task = "cr"', "steps = 3"]), ("b", ["steps = 3", 'task = "cr"'])):
        (tmp_path / name).write_text("\n".join(lines))
        assert digest(load_config(TuneConfig, tmp_path / name)) == digest(config)
    others = [digest(config, "data"), digest(config, "datacode"), digest(TuneConfig(task="cr"), "data", "code")]
    assert len({digest(config, "data", "code"), *others}) == 4


def test_settings_that_came_later_leave_digests_as_they_were() -> None:
    """Runs that were finished before, and records of studies, keep their names."""
    assert digest(TuneConfig(task="cr", steps=40)) == "cbbaa669301db871"
    for name in set(LATER) & set(TuneConfig.model_fields):
        default = TuneConfig.model_fields[name].default
        assert digest(TuneConfig(**{"task": "cr", "steps": 40, name: default})) == "cbbaa669301db871"
    for other in ({"warmup_steps": 3}, {"decay": "cosine"}, {"reparameterise": "mlp"}, {"learning_rate": "auto"}):
        assert digest(TuneConfig(task="cr", steps=40, **other)) != "cbbaa669301db871"


@pytest.mark.parametrize("init", ["instruction", "demonstrations:8", "classes+instruction", "packaged:cr+instruction"])
def test_starts_that_a_task_gives(init: str) -> None:
    assert load_config(TuneConfig, None, ["task=cr", f"init={init}"]).init == init
    assert names_prompt(init) == init.startswith("packaged")


@pytest.mark.parametrize(
    "init",
    ["instructions", "demonstrations", "demonstrations:", "demonstrations:0", "demonstrations:-1", "demonstrations:a/b",
     "demonstrations:1.5", "instruction+classes", "+instruction", "vocab+instruction"],
)  # fmt: skip
def test_starts_that_are_none(init: str) -> None:
    assert "init is" in "".join(complaint(None, "task=cr", f"init={init}"))


def test_digest_does_not_depend_on_the_order_of_fields() -> None:
    """Two models with the same fields in another order name the same run."""

    class One(BaseModel):
        a: int = 1
        b: str = "x"

    class Other(BaseModel):
        b: str = "x"
        a: int = 1

    assert digest(One()) == digest(Other())


def test_toml_is_readable_and_leaves_out_what_is_not_set() -> None:
    """One key a line, in the order of the fields."""
    lines = to_toml(TuneConfig(task='a "quoted" name', gradient_checkpointing=True)).splitlines()
    assert lines[:3] == ['task = "a \\"quoted\\" name"', 'backbone = "embedded"', 'method = "prompt"']
    assert "learning_rate = 0.005" in lines and lines[-1] == "gradient_checkpointing = true"
    assert not any(line.startswith(("train_rows", "key_step")) for line in lines)


contents = st.fixed_dictionaries(
    {"task": st.text(min_size=1)},
    optional={
        "backbone": st.text(min_size=1),
        "steps": st.integers(100, 10_000),
        "learning_rate": st.floats(min_value=0, exclude_min=True, max_value=3e37),
        "weight_decay": st.floats(0, 1, exclude_max=True),
        "optimiser": st.sampled_from(["adamw", "adafactor"]),
        "init": st.text(min_size=1).map(lambda text: f"text:x{text}"),
        "key_step": st.none() | st.integers(1, 100),
        "train_rows": st.none() | st.integers(1, 1_000),
        "gradient_checkpointing": st.booleans(),
    },
)


@settings(deadline=None)
@given(content=contents)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    """Any configuration, with any text in it, comes back equal and with the same digest."""
    config = TuneConfig(**content)
    path = tmp_path_factory.getbasetemp() / "round.toml"
    path.write_bytes(to_toml(config).encode())
    again = load_config(TuneConfig, path)
    assert again == config
    assert digest(again) == digest(config)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2x", (2, "x")), ("2.5 x", (2.5, "x")), ("90s", (90, "s")), ("10min", (600, "s")), (" 1.5h ", (5400, "s"))],
)
def test_budgets(text: str, amount: tuple[float, str]) -> None:
    """Multiples stay as they are, times become seconds."""
    assert read_budget(text) == amount
    assert load_config(TransferConfig, None, [f"budget={text}"]).budget == text.strip()


@pytest.mark.parametrize("text", ["2y", "x", "10", "-2x", "1e3x", "0x", "0min", "2x3", "two", "true"])
def test_budgets_that_cannot_be_read(text: str) -> None:
    """They are refused with what would have been read."""
    with pytest.raises(ConfigError, match="should be a multiple of one plain run such as 2x, or a time such as 90s"):
        load_config(TransferConfig, None, [f"budget={text}"])


def test_a_transfer_goes_to_toml_and_back(tmp_path: Path) -> None:
    """Lists of the file are the tuples of the configuration."""
    config = TransferConfig(strategy="race", budget="10min", starts=("classes", "uniform"), k=None)
    path = tmp_path / "transfer.toml"
    path.write_text(to_toml(config))
    assert load_config(TransferConfig, path) == config
    assert load_config(TransferConfig, None, ['starts=["uniform"]', "k=2"]).starts == ("uniform",)
    with pytest.raises(ConfigError, match="starts is 'uniform'"):
        load_config(TransferConfig, None, ["starts=uniform"])


def test_a_renamed_key_names_its_new_name_and_leaves_digests_as_they_are(tmp_path: Path):
    assert digest(TransferConfig()) == "2d057cdd38b007e6"
    assert digest(TransferConfig(rank_by="learned", steps=8)) == "adfb9640a6d0d819"
    path = tmp_path / "config.toml"
    path.write_text('metric = "learned"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: unknown key 'metric'; it is called 'rank_by'"):
        load_config(TransferConfig, path)
    with pytest.raises(ConfigError, match="unknown key 'metric'; "):
        load_config(TuneConfig, None, ["task=cr", "metric=mean"])
    path.write_text(to_toml(TransferConfig(rank_by="max")))
    assert load_config(TransferConfig, path).rank_by == "max"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["steps=abc", "steps=4"], "override 'steps=abc': steps is 'abc'; it should be a valid integer"),
        (["steps=-4", "steps=4"], "override 'steps=-4': steps is -4"),
        (["init=vocabulry", "init=classes"], "override 'init=vocabulry'"),
        (["method=promt", "method=prompt"], "did you mean 'prompt'"),
    ],
)
def test_a_mistake_is_not_hidden_by_a_later_value_of_its_key(overrides: list[str], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(TuneConfig, None, ["task=cr", *overrides])
    assert named in str(refusal.value) and "1 mistake in" in str(refusal.value)


def test_the_last_of_good_values_wins() -> None:
    assert load_config(TuneConfig, None, ["task=cr", "steps=300", "steps=4"]).steps == 4


def test_no_name_is_suggested_where_a_key_takes_no_names() -> None:
    with pytest.raises(ConfigError, match="budget is"):
        load_config(TransferConfig, None, ["budget=x"])
    with pytest.raises(ConfigError, match="did you mean 'best'"):
        load_config(TransferConfig, None, ["strategy=bst"])
