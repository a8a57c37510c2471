"""What stands at the top of a report: how the study came out, what it was, and what it saved."""

from __future__ import annotations

from frostline_operator.report import numbers
from frostline_operator.report.record import StudyRecord

GAIN = 1.05
"""Below this many times the FLOPs with all layers, freezing has gained nothing."""
_STATUS = {
    "Running": ("under way", "going"),
    "Interrupted": ("interrupted", "going"),
    "Completed": ("finished", "good"),
    "GoalReached": ("goal reached", "good"),
    "BudgetExhausted": ("budget spent", "good"),
    "Failed": ("failed", "bad"),
}


def status(record: StudyRecord) -> tuple[str, str]:
    """How the study stands, and its class in the style sheet; one that ended without a result is no success."""
    words, kind = _STATUS[record.outcome]
    if record.under_way:
        return words, kind
    if record.best is None:
        return f"{words} without a usable result", "bad"
    if record.best.rung < record.top_rung:
        return f"{words} without a result at the highest rung", "bad" if kind == "bad" else "warn"
    return words, kind


def subtitle(record: StudyRecord) -> str:
    """The network, the data and the schedule in two sentences."""
    spec = record.study.spec
    name = {
        "CausalLM": spec.model.config.get("model_type") or spec.model.pretrained or "language model",
        "Vision": spec.model.name,
        "MLP": "MLP",
        "Custom": spec.model.entrypoint,
    }[spec.model.family]
    source = spec.data.builtin or spec.data.path or "its own data"
    algorithm = {"SuccessiveHalving": "Successive Halving"}.get(spec.search.algorithm, spec.search.algorithm)
    rungs = len({row.rung for row in record.rungs})
    schedule = f"{algorithm} over {rungs} rung{'s' if rungs != 1 else ''}, eta {spec.search.eta}"
    return f"{name} ({record.layers} layers) on {source}. {schedule}."


def trials_that_ran(record: StudyRecord) -> int:
    """How many trials were trained at all: they are what savings are reckoned over."""
    return sum(any(r.state in ("Completed", "Diverged") for r in trial.results) for trial in record.trials)


def savings(record: StudyRecord) -> list[dict[str, str]]:
    """What the same work would have taken otherwise, over what was spent: the figure, and what is compared.

    Full training is left out while the study is under way: it would be compared with a part of the study. A study that
    has no result has saved nothing.
    """
    totals = record.totals
    if totals.flops <= 0 or record.best is None:
        return []
    ran = trials_that_ran(record)
    trials = f"the {ran} trials that ran" if ran < len(record.trials) else f"these {ran} trials"
    lines = []
    if not record.under_way and totals.full_flops > 0:
        lines.append(_line(totals.full_flops, totals.flops, f"training {trials} in full"))
    if totals.tokens_only_flops > 0:
        same = f"{trials} to the same {record.unit} with all layers"
        if totals.tokens_only_flops < GAIN * totals.flops:
            figure = numbers.times(totals.tokens_only_flops, totals.flops)
            lines.append(
                {"figure": figure, "words": f"freezing layers gained nothing: the FLOPs of {same}, over these"}
            )
        else:
            lines.append(_line(totals.tokens_only_flops, totals.flops, same))
    return lines


def _line(before: float, after: float, what: str) -> dict[str, str]:
    if before < after:
        return {"figure": numbers.times(before, after), "words": f"nothing saved: the FLOPs of {what}, over these"}
    return {"figure": numbers.times(before, after), "words": f"fewer FLOPs than {what}"}


def elapsed(record: StudyRecord) -> str:
    """From the study's start to its end or to now; empty where its start is not known."""
    end = record.ended or record.written
    if record.started is None or end is None:
        return ""
    return numbers.duration(max(0.0, (end - record.started).total_seconds()))
