"""What the person who installs the operator decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from ruamel.yaml import YAML

from frostline_operator import __version__
from frostline_operator.api.study import PodTemplate
from frostline_operator.cluster.prometheus.settings import PrometheusSettings
from frostline_trainer.contract import Section

Memory = Literal["cuda", "cpu", "none"]


class LeaseSettings(Section):
    """The Lease that an operator must hold to act: of all that share it, one acts, and the others stand by."""

    name: Annotated[str, Field(min_length=1)] = "frostline-operator"
    namespace: Annotated[str, Field(min_length=1)] = "default"
    seconds: Annotated[int, Field(ge=3, le=600)] = 10
    """How long after the death of the operator that acts the next one takes over. At an orderly end it is at once."""


class OperatorSettings(Section):
    """Settings of one operator; all have defaults."""

    image: Annotated[str, Field(min_length=1)] = f"ghcr.io/frostline/trainer:{__version__}"
    """Of the trainer; a study's template may name another."""
    command: list[str] = Field(default_factory=lambda: ["python", "-m", "frostline_trainer"])
    """How the trainer is called in that image."""
    namespaces: list[str] = Field(default_factory=list)
    """Which to look after; none means all."""
    template: PodTemplate = Field(default_factory=PodTemplate)
    """Merged into every trainer's pod, before the study's own template: volumes, tolerations, limits and so on."""
    checkpoints: Annotated[str, Field(min_length=1)] = "/checkpoints"
    """Folder in the trainer's pod or any fsspec URL (s3://bucket/path) under which studies keep their checkpoints."""
    checkpoint_claim: str | None = None
    """A PersistentVolumeClaim in the study's namespace, mounted at `checkpoints`."""
    runtime_class: str | None = None
    """RuntimeClass of pods that get a GPU, such as nvidia where it is not the nodes' default runtime."""
    lease: LeaseSettings | None = None
    """Without it nothing keeps two operators from acting on the same studies at once: no study is damaged by it, since
    the second one's writes are refused, but work is done twice. The Helm chart always has one."""
    cpu_slots: Annotated[int, Field(ge=0)] = 0
    """Runs at a time on nodes without GPUs, for clusters that have none; 0 never runs there."""
    time_slicing: bool = False
    """Use GPUs that are shared by time-slicing. By default not: their memory is not divided, so
    nothing can be planned."""
    memory: Memory = "cuda"
    """Whose memory profiles foretell: that of GPUs, or of CPUs that keep to a declared amount, or none."""
    tick_seconds: Annotated[float, Field(gt=0)] = 2.0
    """A study is looked at so often while it runs; changes in the cluster wake it earlier."""
    linger_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a trainer waits for its last values to be read; it is released as soon as they were."""
    grace_seconds: Annotated[int, Field(ge=1)] = 60
    """Between a trainer's SIGTERM and its end: time to write checkpoints."""
    keep_jobs_seconds: Annotated[int, Field(ge=0)] = 300
    """How long Jobs of ended runs stay, for their logs."""
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    """Where studies of source Prometheus take their scores from. Of the operator only, never of a study."""


def load_settings(path: Path | None, **given: Any) -> OperatorSettings:
    """Settings from a YAML file, with those that are given and not None on top."""
    document: dict[str, Any] = {}
    if path is not None:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    base = OperatorSettings.model_validate(document)
    return base.model_copy(update={name: value for name, value in given.items() if value is not None})
