"""Classify texts with a tuned prompt in scikit-learn's manner: `SoftPromptClassifier`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from spot.errors import BackboneError
from spot.evaluation.door import predict
from spot.evaluation.predictions import no_answer
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.reading import Reading
from spot.strategies.door import transfer
from spot.tasks.inputs import inputs_of, rows_of
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task, data_digest
from spot.training.door import tune

HELD_OUT = 0.2  # of the rows: they choose the checkpoint, and as many again say whether a transfer helped


class SoftPromptClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of texts whose only trained numbers are a soft prompt before a frozen language model.

    Settings that are None have the library's recipe where there is a library, else the documented defaults.

    Args:
        backbone: the frozen model, or its name: `embedded`, a folder or a hub id.
        library: where to look for a prompt to start from: a folder, or `packaged`; None starts from scratch.
        template: how the fields of a row become text; `{text}` is a row that is one text.
        labels: class -> the word that the model answers with; None for the class as text.
        strategy: how a library is used, see `TransferConfig`.
        steps: optimiser steps.
        length: prompt tokens P; a library has its own.
        learning_rate: step size; a library has its own.
        batch_size: rows a step; a library has its own.
        seed: of the order of the rows, and of which are held out.
        settings: any other setting of `TuneConfig`, or with a library of `TransferConfig`; no time is kept to unless
            there is a `budget` among them.
        folder: where runs are kept; None for the user's cache.

    Attributes:
        classes_: the classes, sorted.
        prompt_: the tuned prompt.
        report_: what the transfer found, on rows that it did not see; None without a library.
    """

    def __init__(
        self,
        backbone: Backbone | str = "embedded",
        *,
        library: str | None = None,
        template: str = "sentence: {text}",
        labels: Mapping[Any, str] | None = None,
        strategy: str = "best",
        steps: int | None = None,
        length: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        folder: Path | str | None = None,
    ):
        """Keep the settings; nothing is loaded before `fit`."""
        self.backbone = backbone
        self.library = library
        self.template = template
        self.labels = labels
        self.strategy = strategy
        self.steps = steps
        self.length = length
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.seed = seed
        self.settings = settings
        self.folder = folder

    def fit(self, X: Any, y: Any) -> Self:
        """Tune a prompt on texts and their classes; a fifth of them chooses the checkpoint.

        Args:
            X: texts, mappings of fields, or a table.
            y: the class of each.

        Raises:
            ValueError: X and y differ in length, or y has fewer than two classes.
            SpotError: rows or settings cannot be used.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        rows = rows_of(_flat(X))
        targets = column_or_1d(y, warn=True)
        check_classification_targets(targets)
        if len(targets) != len(rows):
            raise ValueError(f"y has {len(targets)} classes; expected one for each of the {len(rows)} rows")
        self.classes_ = np.unique(targets)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}: expected two or more")
        if unknown := [value for value in self.labels or {} if value not in self.classes_.tolist()]:
            raise ValueError(f"labels names {unknown[0]!r}, which is no class of y: {self.classes_.tolist()}")
        words: dict[Any, str] = {value: (self.labels or {}).get(value, str(value)) for value in self.classes_.tolist()}
        if len(set(words.values())) < len(words):
            raise ValueError(f"labels gives two classes the same word ({sorted(words.values())}): expected one each")
        reading = Reading(template=self.template, labels=tuple((str(value), word) for value, word in words.items()))
        examples = [
            Example(f"train/{number}", example.inputs, (words[value],), texts=example.texts)
            for number, (example, value) in enumerate(zip(inputs_of(rows, reading), targets.tolist(), strict=True))
        ]
        task = Task("rows", lambda split: iter(examples), ("train",), reading.words, ("accuracy",), reading=reading)
        backbone = self._backbone()
        own = {name: getattr(self, name) for name in ("length", "learning_rate", "batch_size")}
        given: dict[str, Any] = {"steps": self.steps}
        if self.library is None:
            given |= {"seed": self.seed, **own}
        elif told := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{told[0]} is that of the library's keys: leave it out, or leave library out")
        settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        settings |= dict(self.settings or {})
        splits = self._split(examples, targets)
        self.report_ = None
        out = None
        if self.folder is not None:  # a run a fit: the folds of a search share the folder
            content = repr((sorted(settings.items()), self.strategy, reading, backbone.id, data_digest(examples)))
            out = Path(self.folder) / blake2b(content.encode(), digest_size=8).hexdigest()
        if self.library is None:
            self.prompt_ = tune(task, backbone, rows=splits, library=None, out=out, **settings)
        else:
            # Equal rows give equal prompts on any machine: nothing is fitted to a time that nobody named.
            chosen = {"budget": None, "strategy": self.strategy, **settings}
            self.report_ = transfer(task, backbone, library=self.library, rows=splits, out=out, **chosen)
            self.prompt_ = self.report_.prompt
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, float64 [rows, classes], in the order of `classes_`.

        Raises:
            BackboneError: a row has no answer, because the model's numbers are not finite.
        """
        check_is_fitted(self)
        prompt: SoftPrompt = self.prompt_
        backbone = self._backbone()
        predictions = predict(prompt, backbone, _flat(X))
        if sentence := no_answer(predictions, backbone):
            raise BackboneError(f"{sentence}.")
        logs = np.array([prediction.log_probabilities for prediction in predictions], dtype=np.float64)
        return np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def __sklearn_tags__(self) -> Tags:
        """What it takes: texts, or mappings of fields, and no numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.dict = True
        return tags

    def _backbone(self) -> Backbone:
        return self.backbone if isinstance(self.backbone, Backbone) else _loaded(self.backbone)

    def _split(self, examples: Sequence[Example], targets: np.ndarray) -> Splits:
        """Rows that train, that choose the checkpoint, and with a library those that only report."""
        numbers = np.arange(len(examples))
        parts = []
        for _ in range(1 if self.library is None else 2):
            count = max(1, round(HELD_OUT * len(examples)))
            classes, sizes = np.unique(targets[numbers], return_counts=True)
            fits = sizes.min() >= 2 and count >= len(classes) and len(numbers) - count >= len(classes)
            training, held = train_test_split(
                numbers, test_size=count, random_state=self.seed, stratify=targets[numbers] if fits else None
            )
            numbers = np.sort(np.asarray(training))
            parts.append(tuple(examples[number] for number in np.sort(np.asarray(held)).tolist()))
        training_rows = tuple(examples[number] for number in numbers.tolist())
        return Splits(training_rows, parts[0], parts[1] if parts[1:] else ())


@lru_cache(maxsize=1)
def _loaded(name: str) -> Backbone:
    """A frozen model by its name; the last one stays in memory, so that folds of a search share it."""
    return Backbone.load(name)


def _flat(rows: Any) -> Any:
    """Texts in an array or a column, of whatever kind, as a list of texts; anything else as it is."""
    if issparse(rows):
        raise TypeError("X is a sparse matrix; expected texts, or mappings of fields")
    if hasattr(rows, "columns") or hasattr(rows, "to_pylist"):
        return rows
    array = np.asarray(rows, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"X has shape {array.shape}; expected texts, [rows] or [rows, 1], or mappings of fields")
    return array.tolist()
