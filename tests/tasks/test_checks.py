"""An audit counts what is in the splits of a task."""

from spot.tasks import registry
from spot.tasks.checks import check_task, faults_of
from spot.tasks.task_file import load_task
from tests.support.data_rows import write_split


def test_check_counts_labels_duplicates_conflicts_and_shared_texts(tmp_path):
    train = [("Fine.", 1), ("fine", 1), ("FINE!", 0), ("poor", 0), (" ", 0)]
    write_split(tmp_path, "cr", [{"text": text, "label": label} for text, label in train])
    write_split(tmp_path, "cr", [{"text": "Poor?", "label": 0}, {"text": "new", "label": 1}], "validation")
    train_split, validation = check_task(registry.get("cr", tmp_path))
    assert (train_split.split, train_split.rows, train_split.labels) == ("train", 5, {"negative": 3, "positive": 2})
    assert (train_split.blank, train_split.duplicates, train_split.conflicts) == (1, 2, 1)
    assert (train_split.shared, validation.shared) == ({"validation": 1}, {"train": 1})
    assert train_split.longest == len("sentence: Fine.")


def test_case24_the_input_of_a_task_file_that_tells_the_answer_is_found(tmp_path):
    names = ["card lost", "card late", "cash fee"]
    rows = [f"note x{n} of somebody,{n % 3},{names[n % 3]},Note {n}. Label : {names[n % 3]}" for n in range(30)]
    (tmp_path / "rows.csv").write_text("text,label,label_text,sequence\n" + "\n".join(rows) + "\n")
    for template, word in (
        ("{text} {label_text}", "the input reads 'label_text', and it is the label in other words"),
        ("{label_text}", "the input reads 'label_text', and it is the label in other words"),
        ("{text}", ""),
    ):
        (tmp_path / "t.toml").write_text(f'name = "t"\nrows = "rows.csv"\ninput = "{template}"\n')
        faults = faults_of(load_task(tmp_path / "t.toml"))
        assert bool(faults) == bool(word) and all(fault.startswith(word) for fault in faults)
    labels = "\n".join(f'{n} = "{name}"' for n, name in enumerate(names))
    (tmp_path / "t.toml").write_text(f'name = "t"\nrows = "rows.csv"\ninput = "{{sequence}}"\n[labels]\n{labels}\n')
    assert "it ends in the label of its row" in faults_of(load_task(tmp_path / "t.toml"))[0]
