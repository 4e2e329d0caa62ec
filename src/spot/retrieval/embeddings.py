"""Compare tasks by their embeddings: what a run has learned by its key step, and three similarities of two of them.

Every similarity first brings a task embedding [P, D] to a summary [R, D]: one row for `mean` and `token`, all P tokens
for `max`. One formula then serves all three: the average over the target's rows of the best product with a row of
the source. So a library is summarised once, and a search is one matrix product.
"""

import numpy as np

from spot.errors import ConfigError, PromptError, did_you_mean
from spot.library.history import encode_summary
from spot.prompts.prompt import SoftPrompt

SIMILARITIES = ("mean", "token", "max")
RECORDED = ("mean", "token")  # those of one row, which the records of a target's transfers hold


def task_embedding(key: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """What a run has learned by its key step: the key less the start, or the key alone where none is known.

    Keys themselves mostly show where a run began, and not what it was about.

    Args:
        key: [P, D], the prompt at the key step.
        start: [P, D], the initial value of the same run.

    Returns:
        float64 [P, D].

    Raises:
        PromptError: a wrong shape, NaN or infinity, or a key that is its start.
    """
    key = _checked(key, "the key")
    if start is None:
        return key
    start = _checked(start, "the start", may_be_zero=True)
    if start.shape != key.shape:
        raise PromptError(f"the key is {list(key.shape)} and its start {list(start.shape)}; expected two of one shape.")
    if np.array_equal(key, start):
        raise PromptError(
            "the key equals its start, so the run has learned nothing by its key step: take a later key step, "
            "or tune with a higher learning rate."
        )
    return key - start


def embedding_of(prompt: SoftPrompt) -> np.ndarray:
    """The task embedding of a prompt, float64 [P, D].

    Raises:
        PromptError: naming the prompt: it has no key, or as `task_embedding`.
    """
    name = f"prompt {prompt.digest} of task {prompt.task!r}"
    if prompt.key is None:
        raise PromptError(
            f"{name} has no key, which a task embedding is read from. Tune it with a key step that the run reaches."
        )
    try:
        return task_embedding(prompt.key, prompt.start)
    except PromptError as error:
        raise PromptError(f"{name}: {error}") from error


def summary(embedding: np.ndarray, kind: str) -> np.ndarray:
    """What a similarity needs to know of a task embedding.

    Args:
        embedding: [P, D].
        kind: of similarity. `mean`: the average token, scaled to length 1; `token`: the average of the tokens, each
            scaled to length 1; `max`: these tokens themselves.

    Returns:
        float64 [1, D] for `mean` and `token`, [P, D] for `max`.

    Raises:
        ConfigError: the similarity is unknown.
        PromptError: a wrong shape, NaN or infinity, or a token (`mean`: an average) of zeros, which has no direction.
    """
    check_similarity(kind)
    embedding = _checked(embedding, "the task embedding")
    if kind == "mean":
        return _unit(embedding.mean(axis=0, keepdims=True), "the average token")
    tokens = _unit(embedding, "token {}")
    return tokens.mean(axis=0, keepdims=True) if kind == "token" else tokens


def summary_of(prompt: SoftPrompt, kind: str) -> np.ndarray:
    """The summary of a prompt's task embedding, float32 [R, D].

    Raises:
        ConfigError: the similarity is unknown.
        PromptError: naming the prompt, as `embedding_of` and `summary`.
    """
    embedding = embedding_of(prompt)
    try:
        return summary(embedding, kind).astype(np.float32)
    except PromptError as error:
        raise PromptError(f"prompt {prompt.digest} of task {prompt.task!r}: {error}") from error


def recorded_summaries(prompt: SoftPrompt) -> dict[str, np.ndarray]:
    """The summaries that records hold of a target: similarity -> float32 [D].

    Raises:
        PromptError: as `summary_of`.
    """
    return {kind: summary_of(prompt, kind)[0] for kind in RECORDED}


def encoded_summaries(prompt: SoftPrompt) -> dict[str, str]:
    """The same as `TransferRecord.embedding` has them."""
    return {kind: encode_summary(row) for kind, row in recorded_summaries(prompt).items()}


def similarity(target: np.ndarray, source: np.ndarray, kind: str = "mean") -> float:
    """How alike two task embeddings are; no similarity depends on the order of the tokens.

    Args:
        target: [P, D].
        source: [Q, D]; its length may differ from the target's.
        kind: `mean`: cosine of the average tokens; `token`: average cosine over all P x Q pairs of tokens;
            `max`: average over the target's tokens of the cosine with the nearest source token.

    Returns:
        The similarity; only `max` depends on which of the two is the target.

    Raises:
        ConfigError: the similarity is unknown.
        PromptError: the widths differ, or as `summary`.
    """
    target_rows, source_rows = summary(target, kind), summary(source, kind)
    check_widths(target_rows, source_rows)
    return float((target_rows @ source_rows.T).max(axis=1).mean())


def check_similarity(kind: str) -> None:
    """Refuse a similarity that is not one of `SIMILARITIES`.

    Raises:
        ConfigError: naming it and the known ones.
    """
    if kind not in SIMILARITIES:
        raise ConfigError(f"unknown similarity {kind!r}: {did_you_mean(kind, SIMILARITIES)}")


def check_widths(target: np.ndarray, source: np.ndarray) -> None:
    """Refuse to compare prompts of two models, by their summaries or embeddings.

    Raises:
        PromptError: naming both widths.
    """
    if target.shape[1] != source.shape[1]:
        raise PromptError(
            f"one task embedding has width {target.shape[1]} and the other {source.shape[1]}: they belong to "
            "different backbones and cannot be compared. Choose a library of the target's backbone."
        )


def _checked(array: np.ndarray, name: str, may_be_zero: bool = False) -> np.ndarray:
    """A float64 [P, D] array of finite numbers, refused where it is none or all zeros."""
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise PromptError(f"{name} is {list(array.shape)}; expected [P, D], P tokens of width D.")
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        raise PromptError(
            f"{name} has {wrong} of {array.size} numbers NaN or infinite; expected finite numbers. "
            "Tune the prompt again with a lower learning rate."
        )
    if not (may_be_zero or array.any()):
        raise PromptError(f"{name} is all zeros, so it has no direction to compare. Tune the prompt again.")
    return array


def _unit(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows [R, D] scaled to length 1, refused where one has no direction; `name` takes its number."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        which = name.format(int(np.argmin(largest)))
        raise PromptError(
            f"{which} of the task embedding is all zeros, so it has no direction to compare. Take a later key "
            "step, or tune the prompt again."
        )
    rows = rows / largest  # the squares of very large or very small numbers leave the range of floats
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
