"""Write docs/library.md from the prompts that ship: `python docs/make_library.py`."""

from pathlib import Path

from spot.building.recipe import LibraryRecipe
from spot.library.library import open_library
from spot.metrics.scores import primary
from spot.prompts.prompt import header
from spot.rendering.tables import table_text

PAGE = Path(__file__).with_name("library.md")
CLEAR = 3.0  # points; about the standard error of a difference of two scores on 500 rows
HEAD = """# The library that ships

Source prompts for the backbone `embedded` (SmolLM2-135M-Instruct), made by `recipes/library.sh` with the settings of
`recipes/library.toml`: 40 tokens, batches of 16, AdamW at 0.005, sampled vocabulary, keys at step 24.

Scores are percent on up to 500 fixed validation rows that chose nothing; the frozen model stands beside them, ranking
the same labels without a prompt. Where a task has two metrics the score is their mean. This page is made by
`python docs/make_library.py`.
"""

OWN = """## A library of your own model

<!-- not run: needs rows of the benchmarks, and hours -->
```sh
spot library build starter --backbone NAME --library DIR --data DATA --plan   # says what it takes
spot library build starter --backbone NAME --library DIR --data DATA          # or a recipe of yours: recipe.toml
spot library build --add reviews.toml --library DIR                           # one more source, by the same recipe
```

1. **Calibration.** Settings race on a task or two: all combinations of starts, rates, lengths, optimisers and
   networks over the prompt that the recipe names. Those that can share batches walk as one gang, and at each rung the
   worse half stops, by rows that choose. Rates are multiples of the rms of what the model's first layer is given for
   its vocabulary, because a rate says nothing without it: that of SmolLM2 is 0.14, that of Gemma 3, which scales its
   embeddings, 1.0. Seq2seq models begin with the paper's settings (Adafactor at 0.3, weight decay 1e-5, 100 tokens).
2. **A check.** The setting that wins must beat the frozen model and a constant answer on rows that neither trained
   nor chose, by more than chance, on one task at least. Else the model is said to learn nothing here, with what was
   tried; the exit code is 2 and no library is made.
3. **Sources.** Every task of the recipe is trained by that one setting, with one start and one key step, scored on
   rows that chose nothing, and added. Tasks whose rows are not here are said and passed over.
4. **A second check.** A second seed of the calibration's tasks is trained up to the key step: where it is not nearer
   to the first than to other tasks, similarity will not rank here, and the card says so and what to change.
5. **The card**, `README.md` of the library: model, recipe, the calibration's table, scores beside the frozen model's,
   licences of the data, how to use it. `build.json` beside it is what `--add` goes by.

A build may be killed at any moment: the same command goes on. `--budget 2h` or `--budget 500000` (text tokens) leaves
out the sources that it does not hold, in the recipe's order; given again with more it goes on with them. `--address`
sends the work to a Ray cluster. A recipe needs a `name` and `tasks`; all its fields, with their defaults:

"""


def fields() -> str:
    """The table of a recipe's fields."""
    rows = []
    for name, field in LibraryRecipe.model_fields.items():
        usual = field.get_default(call_default_factory=True)
        shown = "needed" if field.is_required() else "-" if usual in (None, (), {}) else usual
        listed = ", ".join(map(str, shown)) if isinstance(shown, tuple) else str(shown)
        rows.append((f"`{name}`", listed, field.description or ""))
    return table_text(("field", "default", "meaning"), rows)


def page() -> str:
    """The whole page."""
    rows, weak = [], []
    for entry in sorted(open_library("packaged").entries(), key=lambda entry: entry.task):
        content = header(entry.path)
        ours, frozen = primary(entry.scores), primary(entry.frozen_scores)
        metrics = ", ".join(entry.scores)
        rows.append((entry.task, metrics, frozen, ours, content["step"], content["config"]["steps"], entry.digest))
        if ours <= frozen:
            weak.append(f"- {entry.task} does not beat the frozen model ({ours:.1f} against {frozen:.1f}).")
        elif ours - frozen < CLEAR:
            gain = f"{ours - frozen:.1f} points"
            weak.append(f"- {entry.task} beats the frozen model by {gain}, which 500 rows cannot tell from nothing.")
    table = table_text(("task", "metrics", "frozen", "prompt", "best step", "steps", "digest"), rows)
    verdict = "\n".join(weak) if weak else "Every prompt beats the frozen model."
    return f"{HEAD}\n{table}\n\n{verdict}\n\n{OWN}{fields()}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
