"""Write docs/library.md from the prompts that ship: `python docs/make_library.py`."""

from pathlib import Path

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
    return f"{HEAD}\n{table}\n\n{verdict}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
