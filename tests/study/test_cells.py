"""The cells of a study: how many, of what, under which ids, and which of them walk together."""

from collections import Counter
from pathlib import Path

import pytest

from spot.config import TuneConfig
from spot.study.cells import Cell, StudyPlan, gangs, read_plan

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "paper"
STUDY = """
name = "toy"
sources = ["glue/sst2", "glue/mnli"]
targets = ["cr", "glue/mnli", "squad"]
seeds = 2
restarts = 1
strategies = ["best", "average", "mixture", "race", "oracle", "none"]
models = 0.001
model_mixture = "mixture:nli"
[source]
key_step = 24
steps = 40
[target]
steps = 48
eval_every = 12
"""


@pytest.fixture
def planned(tmp_path):
    def make(*overrides: str, text: str = STUDY) -> StudyPlan:
        path = tmp_path / "study.toml"
        path.write_text(text)
        return read_plan(path, overrides)

    return make


def of(cells: StudyPlan, **wanted) -> list[Cell]:
    return [cell for cell in cells.cells if all(getattr(cell, name) == value for name, value in wanted.items())]


def test_the_cells_are_the_products_of_sources_targets_and_seeds(planned):
    made = planned()
    counts = Counter(cell.kind for cell in made.cells)
    # squad has no labels, so it has no start from classes; glue/mnli is not its own source.
    assert counts == {
        "source": 2 * 2,
        "plain": 2 * (3 + 3 + 2),
        "pair": 2 * (2 + 1 + 2),
        "average": 2 * 3,
        "mixture": 2 * 3,
        "model": 2 * 3 * 2,
        "constant": 2 * 3,
    }
    assert not of(made, kind="pair", task="glue/mnli", sources=("glue/mnli",))
    assert len({cell.digest for cell in made.cells}) == len(made.cells)


def test_a_transfer_needs_the_prompts_of_its_seed(planned):
    made = planned()
    [pair] = of(made, kind="pair", task="cr", sources=("glue/mnli",), seed=1)
    [source] = of(made, kind="source", task="glue/mnli", seed=1)
    first = of(made, kind="plain", task="cr", seed=1)[0]
    assert pair.needs == (source.digest, first.digest)
    assert (first.start, first.init_seed, first.config.key_step) == ("vocabulary", 0, 24)
    assert [cell.config.key_step for cell in of(made, kind="plain", task="cr", seed=1)[1:]] == [None, None]
    [average] = of(made, kind="average", task="cr", seed=1)
    assert set(average.needs) == {cell.digest for cell in of(made, kind="source", seed=1)} | {first.digest}


def test_settings_are_those_of_the_table_of_each_kind(planned):
    made = planned()
    assert {cell.config.steps for cell in of(made, kind="source")} == {40}
    assert {cell.config.steps for cell in made.cells if cell.kind != "source"} == {48}
    assert [cell.init_seed for cell in of(made, kind="plain", task="cr", seed=0)] == [0, 0, 1]
    [mixture] = of(made, kind="mixture", task="cr", seed=1)
    assert mixture.before == TuneConfig(task="mixture", steps=40, seed=1, rows_seed=1)
    alone, before = of(made, kind="model", task="cr", seed=1)
    assert alone.config.method == "model" and alone.config.learning_rate == 0.001 and alone.before is None
    assert before.sources == ("mixture:nli",) and before.before.task == "mixture:nli"


def test_ids_follow_from_content_alone(planned, tmp_path):
    made = planned()
    again = planned(text=STUDY.replace("key_step = 24\nsteps = 40", "steps = 40\ncheckpoint_every = 7\nkey_step = 24"))
    assert [cell.digest for cell in again.cells] == [cell.digest for cell in made.cells]
    ids = {cell.digest for cell in made.cells}
    more = planned("seeds=3", 'targets=["cr", "glue/mnli", "squad", "glue/rte"]', "name=other")
    assert ids < {cell.digest for cell in more.cells}
    longer = planned("source={key_step=24, steps=41}")
    changed = {cell.kind for cell in longer.cells if cell.digest not in ids}
    # A model that was tuned on the mixture before depends on the sources' steps too; plain runs do not.
    assert changed == {"source", "pair", "average", "mixture", "model"}


def test_the_backbones_path_is_no_part_of_an_id(planned, tmp_path):
    ids = []
    for place in ("here", "there"):
        (tmp_path / place / "tiny").mkdir(parents=True)
        ids.append([cell.digest for cell in planned(f"backbone={place}/tiny").cells])
    assert ids[0] == ids[1] != [cell.digest for cell in planned().cells]


def test_a_changed_task_file_gives_another_id(planned, tmp_path):
    ids = []
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(20)))
    for form in ("say: {text}", "hear: {text}"):
        (tmp_path / "mine.toml").write_text(f'name = "mine"\nrows = "rows.csv"\ninput = "{form}"\n')
        ids.append([cell.digest for cell in of(planned('targets=["mine.toml"]'), kind="plain")])
    assert not set(ids[0]) & set(ids[1])


def test_gangs_are_cells_that_differ_in_their_seeds(planned):
    made = planned()
    found = gangs(made.cells)
    for gang in found:
        names = ("kind", "task", "sources", "start", "init_seed", "k")
        assert len({tuple(getattr(cell, name) for name in names) for cell in gang.cells}) == 1
        assert [cell.seed for cell in gang.cells] == ([0, 1] if gang.cells[0].kind != "model" else [gang.cells[0].seed])
    assert sorted(cell.digest for gang in found for cell in gang.cells) == sorted(cell.digest for cell in made.cells)
    assert [gang.digest for gang in gangs(made.cells)] == [gang.digest for gang in found]
    assert gangs(made.cells[1:])[0].digest != found[0].digest


def test_further_learning_rates_have_runs_from_every_start_and_source(planned):
    base, made = planned(), planned('learning_rates=[0.03, "auto"]', 'starts=["vocabulary", "instruction"]')
    plain = [(c.start, c.config.learning_rate, c.init_seed) for c in of(made, kind="plain", task="cr", seed=0)]
    rates = (0.005, 0.03, "auto")
    assert plain == [
        *((start, rate, 0) for rate in rates for start in ("vocabulary", "instruction")),
        ("vocabulary", 0.005, 1),
    ]
    assert [c.config.key_step for c in of(made, kind="plain", task="cr", seed=0)] == [24, *[None] * 6]
    pairs = of(made, kind="pair", task="cr", seed=0, sources=("glue/mnli",))
    assert [c.config.learning_rate for c in pairs] == list(rates) and len({c.title for c in pairs}) == 3
    assert len({c.digest for c in made.cells}) == len(made.cells)
    kinds = ("pair", "average", "mixture", "source", "model", "constant")
    assert {c.digest for c in base.cells if c.kind in kinds} <= {c.digest for c in made.cells}


def test_what_one_would_pick_instead_has_cells_of_its_own(planned):
    made = planned('instead=["lora", "tfidf"]')
    arms = [cell.kind for cell in made.cells if cell.task == "cr" and cell.seed == 0][-3:]
    assert arms == ["constant", "tfidf", "lora"]
    [plain, *_] = of(made, kind="plain", task="cr", seed=1)
    for kind in arms:
        [cell] = of(made, kind=kind, task="cr", seed=1)
        assert not cell.needs and cell.config == plain.config.model_copy(update={"key_step": None})
    [rank8], [rank4] = (
        of(planned('instead=["lora"]', f"lora_rank={r}"), kind="lora", task="cr", seed=0) for r in (8, 4)
    )
    assert rank8.digest != rank4.digest and dict(rank4.arm)["lora_rank"] == 4
    others = [planned(f"lora_rank={r}").cells for r in (8, 4)]
    assert [cell.digest for cell in others[0]] == [cell.digest for cell in others[1]]


def test_each_seed_has_a_draw_of_rows_of_its_own(planned):
    made = planned("target={steps=48, eval_every=12, rows_seed=7}")
    for cell in made.cells:
        assert cell.config.rows_seed == cell.seed + (0 if cell.kind == "source" else 7)
        assert cell.before is None or cell.before.rows_seed == cell.seed
    fixed = planned("rows=fixed", "target={steps=48, eval_every=12, rows_seed=7}")
    assert {cell.config.rows_seed for cell in fixed.cells if cell.kind != "source"} == {7}
    assert [len(gang.cells) for gang in gangs(fixed.cells)] == [len(gang.cells) for gang in gangs(made.cells)]
    first = {cell.digest for cell in made.cells if cell.seed == 0}
    assert first == {cell.digest for cell in fixed.cells if cell.seed == 0}


def test_gangs_do_not_grow_with_the_seeds(planned):
    made = planned("seeds=19", 'strategies=["none"]', 'targets=["cr"]', "models=false", "model_mixture=none")
    sizes = Counter(len(gang.cells) for gang in gangs(made.cells))
    assert sizes == {8: 2 * 6, 3: 6} and sum(size * count for size, count in sizes.items()) == len(made.cells)


def test_runs_with_dropout_walk_alone(planned):
    made = planned("source={key_step=24, dropout=0.1}", "target={dropout=0.1, steps=48, eval_every=12}")
    assert all(len(gang.cells) == 1 for gang in gangs(made.cells))


def test_an_existing_prompt_is_one_cell_that_all_seeds_need(planned):
    made = planned('sources=["packaged:glue/sst2"]', "target={length=40, key_step=24}", 'strategies=["best"]')
    [source] = of(made, kind="source")
    assert source.prompt and all(cell.needs[0] == source.digest for cell in of(made, kind="pair"))
    assert len({cell.seed for cell in of(made, kind="pair")}) == 2


@pytest.mark.parametrize(
    ("name", "sources", "embeddings", "pairs"),
    [("study26", 16 * 3, 10 * 3, 160 * 3), ("table1", 14 * 3, 16 * 3, 14 * 16 * 3 - 3), ("table4", 3, 8 * 3, 8 * 3)],
)
def test_the_papers_studies_have_the_papers_cells(name, sources, embeddings, pairs):
    made = read_plan(RECIPES / f"{name}.toml")
    keyed = [cell for cell in of(made, kind="plain") if cell.config.key_step is not None]
    assert (len(of(made, kind="source")), len(keyed), len(of(made, kind="pair"))) == (sources, embeddings, pairs)
    for config in (cell.config for cell in made.cells):
        assert (config.length, config.batch_size, config.dropout, config.optimiser) == (100, 32, 0.1, "adafactor")
        if config.method == "prompt":
            assert (config.learning_rate, config.weight_decay) == (0.3, 1e-5)
    assert {cell.config.steps for cell in of(made, kind="source")} == {2**18}
    assert {cell.config.steps for cell in of(made, kind="pair")} == {100_000 if name == "study26" else 2**18}
