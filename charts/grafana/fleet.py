"""*Fleet*: the GPUs by memory class, who waits for them, and what training fewer layers saves."""

from __future__ import annotations

from charts.grafana.frame import Section, dashboard
from charts.grafana.panels import Builder, Column, Query, bars, lines, number, rows
from grafana_foundation_sdk.builders.dashboard import Dashboard

SOME = '{namespace=~"$namespace", study=~"$study"}'
"""Selects the studies that were picked."""


def of(name: str) -> str:
    """A metric of the picked studies."""
    return f"frostline_study_{name}{SOME}"


def fleet() -> Dashboard:
    """The dashboard."""
    return dashboard(
        "fleet",
        "Frostline / Fleet",
        "GPUs by memory class: what is idle, what is asked for, how well memory is foretold, and what is saved.",
        [Section("Devices", [*_now(), *_devices()]), Section("Memory", _memory()), Section("Savings", _savings()),
         Section("Studies", _studies())],
        several=True,
    )  # fmt: skip


def _now() -> list[Builder]:
    return [
        number(
            "Devices",
            "GPUs on ready nodes (or CPU slots where there are none). Fewer than expected: a node is cordoned or not "
            "ready, or the memory of its GPUs is not known.",
            Query("sum(frostline_memory_class_devices)"),
        ),
        number(
            "Busy",
            "Share of the devices that some pod holds, of Frostline or of others.",
            Query("sum(frostline_memory_class_devices_busy) / sum(frostline_memory_class_devices)"),
            unit="percentunit",
            decimals=0,
        ),
        number(
            "Idle",
            "Devices that nobody holds. Idle ones beside waiting runs belong to a class that those runs do not fit.",
            Query("sum(frostline_memory_class_devices - frostline_memory_class_devices_busy)"),
        ),
        number(
            "Runs waiting",
            "Runs that would start if there were a device. Above 0 for long: add devices of the class below, allow "
            "placement.overflow, or lower search.parallelism.",
            Query("sum(frostline_runs_waiting)"),
            colours=((None, "green"), (1, "orange")),
        ),
        number(
            "Compute saved",
            "Of the picked studies, beside every trial so far at full fidelity.",
            Query(f"1 - sum({of('flops_total')}) / sum({of('full_fidelity_flops')} > 0)"),
            unit="percentunit",
            decimals=0,
            colours=((None, "orange"), (0.5, "green")),
        ),
        number(
            "Device time saved",
            "Expected device time of every trial so far at full fidelity, at the speed of these studies' own runs, "
            "less what was spent.",
            Query(f"sum({of('full_fidelity_gpu_seconds')}) - sum({of('gpu_seconds_total')})"),
            unit="dtdurations",
        ),
    ]


def _devices() -> list[Builder]:
    return [
        lines(
            "Devices held by studies",
            "By memory class. Small classes should be busy first: large ones are for high rungs.",
            Query("frostline_memory_class_devices_held", "{{memory_class}}"),
            stacked=True,
            steps=True,
            decimals=0,
        ),
        lines(
            "Idle devices",
            "By memory class. A class that is never idle is the bottleneck; one that always is can be given back.",
            Query("frostline_memory_class_devices - frostline_memory_class_devices_busy", "{{memory_class}}"),
            steps=True,
            low=0,
            decimals=0,
        ),
        lines(
            "Runs waiting by class",
            "The queue: runs without a device, by the smallest class that fits them.",
            Query("frostline_runs_waiting", "{{memory_class}}"),
            stacked=True,
            steps=True,
            decimals=0,
        ),
        rows(
            "Memory classes",
            "Devices with the same usable memory. Where a class is missing, label its nodes with "
            "hpo.frostline.dev/usable-gpu-memory.",
            "memory_class",
            Column("devices", "sum by (memory_class) (frostline_memory_class_devices)"),
            Column("held by studies", "sum by (memory_class) (frostline_memory_class_devices_held)"),
            Column("busy", "sum by (memory_class) (frostline_memory_class_devices_busy)"),
            Column("runs waiting", "sum by (memory_class) (frostline_runs_waiting)"),
            Column("usable memory", "min by (memory_class) (frostline_memory_class_usable_bytes)", "bytes"),
            Column("device time", f"sum by (memory_class) ({of('gpu_seconds_total')})", "dtdurations"),
            height=6,
        ),
    ]


def _memory() -> list[Builder]:
    return [
        bars(
            "Usable, predicted, measured",
            "By class: what a device offers, the largest prediction, the largest measured peak. A class whose bars are "
            "far apart is larger than its runs need: smaller devices would do.",
            Query("min by (memory_class) (frostline_memory_class_usable_bytes)", "{{memory_class}} usable"),
            Query(f"max by (memory_class) ({of('memory_predicted_bytes')})", "{{memory_class}} predicted"),
            Query(f"max by (memory_class) ({of('memory_measured_bytes')})", "{{memory_class}} measured"),
            unit="bytes",
        ),
        lines(
            "Measured over predicted",
            "The largest ratio of a run, by class. Near 1 is right; above 1 is corrected for later runs; far from it, "
            "the profile is not of the model that is trained (a hyperparameter changes its size).",
            Query(f"max by (memory_class) ({of('memory_ratio')})", "{{memory_class}}"),
            limit=1.1,
            low=0,
        ),
        lines(
            "Runs out of memory",
            "In the last hour, by class. Each is repeated with more memory, fewer companions or fewer layers. More "
            "than a few: raise placement.headroom, or correct what the nodes say of their memory.",
            Query(f"sum by (memory_class) (increase({of('out_of_memory_total')}[1h]))", "{{memory_class}}"),
            low=0,
        ),
    ]


def _savings() -> list[Builder]:
    return [
        lines(
            "Compute",
            "Floating-point operations of the picked studies: spent, with all layers at every rung, and with every "
            "trial in full.",
            Query(f"sum({of('flops_total')})", "spent"),
            Query(f"sum({of('tokens_only_flops')})", "all layers, same schedule"),
            Query(f"sum({of('full_fidelity_flops')})", "every trial in full"),
            unit="sishort",
            steps=True,
            low=0,
        ),
        lines(
            "Device time",
            "Device time of the picked studies: spent, and expected for every trial in full. Start-up is in both, so "
            "very short runs save less time than compute.",
            Query(f"sum({of('gpu_seconds_total')})", "spent"),
            Query(f"sum({of('full_fidelity_gpu_seconds')})", "every trial in full"),
            unit="s",
            steps=True,
            low=0,
        ),
        bars(
            "Device time by class",
            "Where the time went. The more of it on small classes, the better.",
            Query(f"sum by (memory_class) ({of('gpu_seconds_total')})", "{{memory_class}}"),
            unit="s",
        ),
    ]


def _studies() -> list[Builder]:
    def each(expression: str) -> str:
        """One series for each study, under one label that tells them apart."""
        return f'label_join({expression}, "name", "/", "namespace", "study")'

    def total(expression: str) -> str:
        return f"sum by (namespace, study) ({expression})"

    saved = f"1 - {of('flops_total')} / {of('full_fidelity_flops')}"
    return [
        rows(
            "All picked studies",
            "Those that are over included, until they are deleted. Open one in *Study* by picking it above.",
            "name",
            Column("best", f"sum by (name) ({each(of('best_objective'))})"),
            Column("trials", f"sum by (name) ({each(total(of('trials')))})"),
            Column("runs under way", f"sum by (name) ({each(_running())})"),
            Column("time left", f"sum by (name) ({each(of('remaining_seconds'))})", "dtdurations"),
            Column("device time", f"sum by (name) ({each(total(of('gpu_seconds_total')))})", "dtdurations"),
            Column(
                "saved",
                f"sum by (name) ({each(saved)})",
                "percentunit",
            ),
            width=16,
        ),
        lines(
            "Studies by phase",
            "Pending or Profiling for long, or Failed: look at the study's conditions.",
            Query(f"sum by (phase) ({of('phase')})", "{{phase}}"),
            stacked=True,
            steps=True,
            decimals=0,
        ),
    ]


def _running() -> str:
    runs = "frostline_study_runs" + SOME[:-1] + ', state=~"Pending|Running|Stopping"}'
    return f"sum by (namespace, study) ({runs})"
