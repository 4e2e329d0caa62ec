"""An audit counts what is in the splits of a task."""

from spot.tasks import registry
from spot.tasks.checks import check_task
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
