"""Make the page of a report on a prompt: scores, classes, calibration, rows, curves, settings and provenance."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from spot.evaluation.answers import answer_sections, measured_calibration, next_steps
from spot.evaluation.calibration import calibration_section
from spot.evaluation.classes import class_sections, titled_scores
from spot.evaluation.door import MixtureScores, TaskScores
from spot.metrics.scores import bootstrap_interval
from spot.prompts.card import score_text
from spot.rendering.drawings import Measured, interval_plot, learning_curves
from spot.rendering.html import Page, Section
from spot.rendering.tables import Cell
from spot.reporting.subject import Subject

LONG_SETTING = 200  # letters of a setting


def report_page(
    subject: Subject, scored: TaskScores | MixtureScores | None, missing: tuple[str, ...], command: str = ""
) -> Page:
    """The page of a report.

    Args:
        subject: what it is about.
        scored: what it answers to rows; None where no rows were at hand.
        missing: what could not be shown, and how to get it, in sentences.
        command: that makes the report again.
    """
    members = () if scored is None else scored.members if isinstance(scored, MixtureScores) else (scored,)
    title = {"prompt": "A soft prompt for", "run": "A run on", "transfer": "The runs of a transfer to"}
    sections: list[Section] = []
    if missing:
        sections.append({"heading": "What is not shown", "text": "\n\n".join(missing)})
    sections += _scores(subject, members)
    sections += _curves(subject)
    for member in members:
        sections += _member(member, subject, several=len(members) > 1)
    sections += [_provenance(subject), _settings(subject)]
    if subject.prompt_file:
        sections.append(next_steps(subject.prompt_file))
    page: Page = {
        "title": f"{title.get(subject.kind, 'A model tuned on')} {subject.task}",
        "verdict": _verdict(subject, members),
        "facts": _facts(subject),
        "sections": sections,
    }
    if chart := _chart(members, subject):
        page["chart"] = chart
    return {**page, "command": command} if command else page


def _verdict(subject: Subject, members: tuple[TaskScores, ...]) -> str:
    """What it reaches, in a sentence or two."""
    prompt = subject.prompt
    if not members:
        if prompt is None:
            scores = subject.gangs[0].results[0].scores if subject.gangs and subject.gangs[0].results else {}
            return f"Its run had {score_text(scores)}, percent. It was not asked any rows for this report."
        frozen = f", the frozen model {score_text(prompt.frozen_scores)}" if prompt.frozen_scores else ""
        return f"Its run had {score_text(prompt.scores)}{frozen}, percent. It was not asked any rows for this report."
    parts = []
    for member in members:
        shown = titled_scores(member.scores, member.classes, member.positive) if member.classes else member.scores
        sentence = f"{member.task} {member.split}, {member.rows} rows: {score_text(shown)}"
        if member.classes is not None:
            label, always = member.classes.majority
            sentence += f"; always answering {label!r} has accuracy {always:.1f}"
        parts.append(f"{sentence}.")
    return " ".join(parts)


def _chart(members: tuple[TaskScores, ...], subject: Subject) -> str:
    """Accuracy with its interval, beside that of always giving one answer."""
    measured = []
    for member in members:
        if member.classes is None or not member.examples:
            continue
        pairs = zip(member.predictions, member.examples, strict=True)
        correct = [prediction.is_answered and prediction.text in example.answers for prediction, example in pairs]
        low, high = bootstrap_interval([float(right) for right in correct])
        named = f"{member.task}: " if len(members) > 1 else ""
        who = "this model" if subject.prompt is None else "this prompt"
        label, always = member.classes.majority
        measured += [
            Measured(name=f"{named}{who}", value=member.classes.accuracy, low=low, high=high, is_marked=True),
            Measured(name=f"{named}always {label!r}", value=always, low=always, high=always),
        ]
    return interval_plot(measured, subject="Accuracy, percent") if measured else ""


def _facts(subject: Subject) -> list[tuple[str, Cell]]:
    """What stands below the verdict."""
    prompt = subject.prompt
    if prompt is None:
        return [("kind", subject.kind), ("folder", str(subject.model))]
    return [
        ("kind", subject.kind),
        ("frozen model", prompt.backbone.name),
        ("prompt tokens", prompt.length),
        ("parameters", f"{prompt.value.size:,}"),
        ("best step", prompt.step),
        ("digest", prompt.digest),
    ]


def _scores(subject: Subject, members: tuple[TaskScores, ...]) -> list[Section]:
    """What was measured when it was trained, and now; of a transfer all its runs."""
    rows: list[list[Cell]] = []
    prompt = subject.prompt
    if prompt is not None:
        for name, percent in prompt.scores.items():
            rows.append(
                [name, percent, prompt.frozen_scores.get(name), *(part.scores.get(name) for part in members[:1])]
            )
    columns = ("metric", "when it was tuned, %", "frozen model then, %", *(["here, %"] if members else []))
    sections: list[Section] = []
    if rows:
        text = "What stood in its file: on rows that chose nothing where the run had any, else on those that selected."
        sections.append({"heading": "Scores", "text": text, "table": {"columns": columns, "rows": rows}})
    if subject.kind == "transfer":
        runs: list[list[Cell]] = [
            [gang.name, len(gang.curves), gang.selection if any(gang.curves) else None, _state(gang.results)]
            for gang in subject.gangs
        ]
        sections.append(
            {
                "heading": "The runs of this transfer",
                "text": "By their best score on selection rows, mean over seeds; the prompt of this report is the best "
                "of the first line. What the arms reach on report rows stands in the report that the transfer itself "
                "makes (in Python: `spot.transfer(...).save(FILE)`).",
                "table": {"columns": ("start", "seeds", "best selection score, %", "state"), "rows": runs},
                "has_cards": True,
            }
        )
    return sections


def _state(results: tuple[Any, ...]) -> str:
    if not results:
        return "not finished"
    if all(result.diverged for result in results):
        return "diverged"
    return "dropped" if all(result.dropped for result in results) else "finished"


def _curves(subject: Subject) -> list[Section]:
    """The learning curves of its runs, and what looks wrong with them."""
    curves = {gang.name: gang.curves for gang in subject.gangs if any(gang.curves)}
    if not curves:
        return []
    lines = [f"{line}." for gang in subject.gangs for result in gang.results for line in result.diagnosis]
    text = "Step 0 is the start itself. Selection rows choose the step that is kept, so its score is a little too high."
    return [
        {
            "heading": "Learning curves",
            "text": "\n\n".join([text, *dict.fromkeys(lines)]),
            "chart": learning_curves(curves),
        }
    ]


def _member(member: TaskScores, subject: Subject, *, several: bool) -> list[Section]:
    """What it answers to rows of one task."""
    sections: list[Section] = []
    if member.classes is not None:
        sections += class_sections(member.classes, "the model" if subject.prompt is None else "the prompt")
    if (measured := measured_calibration(member.examples, member.predictions)) is not None:
        sections.append(calibration_section(measured))
    sections += answer_sections(member.examples, member.predictions)
    if several:
        return [{**section, "heading": f"{member.task}: {section['heading']}"} for section in sections]
    return sections


def _provenance(subject: Subject) -> Section:
    """Where it comes from."""
    prompt = subject.prompt
    rows: list[list[Cell]] = [["place", subject.place or "in memory"], ["task", subject.task]]
    if prompt is not None:
        parents = ", ".join(f"{parent.digest} ({parent.weight:g})" for parent in prompt.parents)
        recipe = "" if prompt.key_recipe is None else _listed(asdict(prompt.key_recipe))
        told = {
            "file": "" if subject.prompt_file == subject.place else subject.prompt_file,
            "revision of the task": prompt.task_revision,
            "training rows, digest": prompt.data_digest,
            "frozen model": str(prompt.backbone),
            "start": prompt.initialiser,
            "prompts that it started from": parents,
            "seed": None if prompt.seed is None else str(prompt.seed),
            "recipe of its key": recipe,
            "version of spot": prompt.code_version,
        }
        rows += [[name, value] for name, value in told.items() if value]
    else:
        rows.append(["folder of the model", str(subject.model)])
    return {"heading": "Where it comes from", "table": {"columns": ("what", "value"), "rows": rows}, "has_cards": True}


def _settings(subject: Subject) -> Section:
    """The settings of its run."""
    rows: list[list[Cell]] = [[name, _setting(value)] for name, value in subject.settings.items() if value is not None]
    section: Section = {"heading": "Settings of its run"}
    if not rows:
        return {**section, "text": "Its file does not say them."}
    return {**section, "table": {"columns": ("setting", "value"), "rows": rows}, "has_cards": True}


def _setting(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONG_SETTING else f"{text[: LONG_SETTING - 3]}..."


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
