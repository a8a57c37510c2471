"""*Study*: how one search goes, and whether its cheap rungs can be believed."""

from __future__ import annotations

from charts.grafana.frame import Section, dashboard
from charts.grafana.panels import Builder, Column, Query, bars, lines, number, rows, statements, states
from grafana_foundation_sdk.builders.dashboard import Dashboard

ONE = '{namespace="$namespace", study="$study"}'
"""Selects the study that is looked at."""
DECIDED = 'state=~"Completed|Dropped|Failed|Stopped"'
TRUTH = {"0": ("no", "#808080"), "1": ("yes", "blue")}


def of(name: str, more: str = "") -> str:
    """A metric of the study; `more` are further selectors."""
    return f"frostline_{name}" + (ONE if not more else ONE.replace("}", f", {more}}}"))


UNITS = 'unit!="trials"'
"""Trials are all drawn early on: their share says nothing about how far the study has come."""
USED = f"max({of('study_budget_used', UNITS)} / on (namespace, study, unit) ({of('study_budget_limit', UNITS)} > 0))"


def study() -> Dashboard:
    """The dashboard."""
    return dashboard(
        "study",
        "Frostline / Study",
        "One study: what it has found, how far it is, what it has spent, and whether low rungs rank as high ones do.",
        [Section("How it stands", _now()), Section("What it has found", _found()), Section("Rungs", _rungs()),
         Section("Budget and devices", _spent()), Section("Conditions", _conditions())],
        several=False,
    )  # fmt: skip


def _now() -> list[Builder]:
    return [
        number(
            "Phase",
            "Pending, Invalid, Profiling, Running, Blocked, Suspended, Complete or Failed. Where it stays Pending or "
            "Profiling, the conditions below say what is missing.",
            Query(f"{of('study_phase')} == 1", "{{phase}}"),
            words=True,
            none="no such study",
        ),
        number(
            "Best so far",
            "The study's metric of the best trial of the highest rung that has a result. Values of lower rungs do not "
            "count, however good: they measure fewer layers and tokens.",
            Query(of("study_best_objective")),
            decimals=4,
            none="no result yet",
        ),
        number(
            "Time left",
            "Expected from the runs so far, within the budget. Not known before the first run has ended. If it grows, "
            "runs are lost or wait for devices: see *Runs by state*.",
            Query(of("study_remaining_seconds")),
            unit="dtdurations",
        ),
        number(
            "Trials decided",
            "Trials that need no further run, of those drawn so far.",
            Query(f"sum({of('study_trials', DECIDED)}) / sum({of('study_trials')})"),
            unit="percentunit",
            decimals=0,
        ),
        number(
            "Budget spent",
            "Of the limit that is closest to being spent, trials apart. At 100 % the best so far stands; raise "
            "spec.budget while the study runs if that is too early.",
            Query(USED),
            unit="percentunit",
            decimals=0,
            colours=((None, "green"), (0.8, "orange"), (0.95, "red")),
            none="no limit",
        ),
        number(
            "Compute saved",
            "Part of the floating-point operations saved beside training every trial so far at full fidelity. Early in "
            "a study it is flattered by trials that have not run yet.",
            Query(f"1 - {of('study_flops_total')} / ({of('study_full_fidelity_flops')} > 0)"),
            unit="percentunit",
            decimals=0,
            colours=((None, "orange"), (0.5, "green")),
        ),
    ]


def _found() -> list[Builder]:
    trial = "rung {{rung}}  {{trial}}"
    return [
        lines(
            "Best value by rung",
            "The best value at each rung, and thickest the best of the highest rung. When a higher rung opens, the "
            "value may step back: its trials have only just started over.",
            Query(of("study_best_objective"), "best so far"),
            Query(of("study_rung_best_objective"), "rung {{rung}}"),
            rungs=True,
            steps=True,
        ),
        lines(
            "Learning curves",
            "The study's metric of each trial in its run, as the trainers show it. A curve that has not flattened at "
            "the end of its rung asks for more tokens there; one that leaves the picture is diverging.",
            Query(of("trial_objective"), trial),
            width=16,
            rungs=True,
            legend=False,
        ),
        lines(
            "Median by rung",
            "The median of the running trials at each rung. Where rungs do not come out in order, higher fidelity does "
            "not help: see the rank correlation.",
            Query(f"quantile by (rung) (0.5, {of('trial_objective')})", "rung {{rung}}"),
            rungs=True,
        ),
        lines(
            "Training loss",
            "Training loss of late, by trial. Far below the objective it means overfitting, NaN gaps mean divergence.",
            Query(of("trial_loss"), trial),
            rungs=True,
            legend=False,
        ),
        lines(
            "Tokens seen",
            "Tokens or samples that each trial had seen at its last evaluation, of which a run has four. A line that "
            "stays flat for much longer than its first steps took is a trainer that hangs: see its pod's log.",
            Query(of("trial_tokens_total"), trial),
            rungs=True,
            legend=False,
            steps=True,
            low=0,
        ),
    ]


def _rungs() -> list[Builder]:
    def by_rung(expression: str) -> str:
        return f"sum by (rung) ({expression})"

    return [
        rows(
            "Rung table",
            "As `kubectl describe study` and the report have it. Layers below those of the schedule mean that no GPU "
            "holds more (FidelityReduced). Agreement is Spearman's rank correlation with the next rung, over the "
            "trials that reached both.",
            "rung",
            Column("layers", by_rung(of("study_rung_layers"))),
            Column("tokens", by_rung(of("study_rung_tokens")), "none"),
            Column("planned", by_rung(of("study_rung_planned_trials"))),
            Column("entered", by_rung(of("study_rung_trials"))),
            Column("running", by_rung(of("study_rung_trials", 'state="Running"'))),
            Column("finished", by_rung(of("study_rung_trials", 'state="Completed"'))),
            Column("failed", by_rung(of("study_rung_trials", 'state="Failed"'))),
            Column("promoted", by_rung(of("study_promotions_total"))),
            Column("best", by_rung(of("study_rung_best_objective")), "none"),
            Column("agreement", by_rung(of("study_rank_correlation"))),
            height=6,
        ),
        lines(
            "Trials by state",
            "Waiting trials have a result and wait for the others of their rung; pending ones need a device. Failed "
            "ones diverged or could not be run: `kubectl get trials` says which and why.",
            Query(of("study_trials"), "{{state}}"),
            stacked=True,
            steps=True,
            decimals=0,
        ),
        lines(
            "Promotion flow",
            "Trials that have gone from each rung to the next. Steps together are synchronous halving, a slope is "
            "ASHA. No step for long with trials running above: raise parallelism or add devices.",
            Query(of("study_promotions_total"), "from rung {{rung}}"),
            rungs=True,
            steps=True,
            low=0,
            decimals=0,
        ),
        lines(
            "Trials at each rung",
            "Where the work is: trials in a run, by rung. Low rungs that stay busy while high ones are empty wait for "
            "large GPUs.",
            Query(of("study_rung_trials", 'state="Running"'), "rung {{rung}}"),
            rungs=True,
            stacked=True,
            steps=True,
            decimals=0,
        ),
        lines(
            "Rank correlation with the next rung",
            "1: the rung ranks trials as the next one does. Below the line at 0.3 its promotions are little better "
            "than chance: raise fidelity.layers.min or the lowest rung's tokens, or set trust.onUntrusted to "
            "RaiseLowestRung.",
            Query(of("study_rank_correlation"), "rung {{rung}}"),
            rungs=True,
            low=-1,
            high=1,
            limit=0.3,
            width=12,
        ),
        bars(
            "Trials that entered each rung",
            "The funnel. Each bar is about 1/eta of the one above; a rung that lets in fewer than planned has lost "
            "trials to failures.",
            Query(f"sum by (rung) ({of('study_rung_trials')})", "rung {{rung}}"),
            width=12,
        ),
    ]


def _spent() -> list[Builder]:
    limit = f"on (namespace, study, unit) ({of('study_budget_limit')} > 0)"
    return [
        lines(
            "Budget left",
            "Share of each limit that is neither spent nor reserved by runs under way. It never goes below 0. A line "
            "that will reach 0 before *Time left* is over ends the study early.",
            Query(f"1 - ({of('study_budget_used')} + {of('study_budget_reserved')}) / {limit}", "{{unit}}"),
            unit="percentunit",
            low=0,
            high=1,
            steps=True,
        ),
        lines(
            "Time left over time",
            "Expected seconds until the study ends. It should fall as fast as the clock runs.",
            Query(of("study_remaining_seconds"), "time left"),
            unit="dtdurations",
            low=0,
        ),
        lines(
            "Runs by state",
            "Runs under way, and those that did not end well. Pending for long: no device, see *Fleet*. Lost: evicted "
            "or killed, they are repeated. OutOfMemory: repeated with more memory or fewer layers.",
            Query(of("study_runs", 'state!~"Succeeded"'), "{{state}}"),
            steps=True,
            low=0,
            decimals=0,
        ),
        lines(
            "Device time by memory class",
            "Seconds that ended runs held a device. Low rungs belong on small cards: if the largest class takes most, "
            "label the small ones or lower fidelity.layers.min.",
            Query(of("study_gpu_seconds_total"), "{{memory_class}}"),
            unit="s",
            steps=True,
            low=0,
        ),
        lines(
            "Compute against doing without",
            "Floating-point operations so far; the same results with all layers (classic halving); every trial so far "
            "at full fidelity.",
            Query(of("study_flops_total"), "this study"),
            Query(of("study_tokens_only_flops"), "all layers, same schedule"),
            Query(of("study_full_fidelity_flops"), "every trial in full"),
            unit="sishort",
            steps=True,
            low=0,
        ),
        lines(
            "Memory: predicted and measured",
            "Largest peak of a run on each class, foretold and measured, and what a device offers. Measured above "
            "predicted is corrected by itself; above usable, runs end out of memory.",
            Query(of("study_memory_predicted_bytes"), "predicted {{memory_class}}"),
            Query(of("study_memory_measured_bytes"), "measured {{memory_class}}"),
            Query(
                "frostline_memory_class_usable_bytes and on (memory_class) "
                f"({of('study_memory_predicted_bytes')} or {of('study_memory_measured_bytes')})",
                "usable {{memory_class}}",
            ),
            unit="bytes",
            low=0,
        ),
    ]


def _conditions() -> list[Builder]:
    return [
        statements(
            "Conditions now",
            "What the study says of itself, with its reason in one word. The sentence for people is in `kubectl "
            "describe study`; docs/operations.md says what to do about each.",
            Query(of("study_condition")),
            TRUTH,
        ),
        states(
            "Conditions over time",
            "When each condition held.",
            Query(f"max by (type) ({of('study_condition')})", "{{type}}"),
            TRUTH,
        ),
    ]
