"""What the person who installs the operator decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from frostline_operator import __version__
from frostline_operator.api.problems import describe, known_keys, model_at, nearest, plain_path
from frostline_operator.api.quantity import Bytes
from frostline_operator.api.search import HEADROOM, Price, priced_twice
from frostline_operator.api.study import HPOStudySpec, PodTemplate
from frostline_operator.scores.settings import PrometheusSettings
from frostline_trainer.contract import FieldPath, Section, SectionError

Memory = Literal["cuda", "cpu", "none"]


class LeaseSettings(Section):
    """The Lease that an operator must hold to act: of all that share it, one acts, and the others stand by."""

    name: Annotated[str, Field(min_length=1)] = "frostline-operator"
    """Of the Lease: operators of one name act in turn."""
    namespace: Annotated[str, Field(min_length=1)] = "default"
    """Where the Lease is."""
    seconds: Annotated[int, Field(ge=3, le=600)] = 10
    """How long after the death of the operator that acts the next one takes over. At an orderly end it is at once."""


class DeclaredClass(Section):
    """GPUs that a person tells of, where the operator cannot see them or is not to look."""

    usable_memory: Bytes
    """What a run may use of one GPU, such as 20Gi; larger classes are kept free for higher rungs."""
    devices: Annotated[int, Field(ge=1)]
    """How many GPUs there are: so many runs at a time."""
    resource: Annotated[str, Field(min_length=1)] = "nvidia.com/gpu"
    """What a pod asks for to get one."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of their nodes, such as nvidia.com/gpu.product: NVIDIA-L4; needed where there are several classes."""


class StudyDefaults(Section):
    """What the operator decides where a study does not; kept with the study, since that may not change on its way."""

    headroom: float
    prices: list[Price]

    def complete(self, spec: HPOStudySpec) -> HPOStudySpec:
        """The study with what it leaves to the operator."""
        placement, budget = spec.placement, spec.budget
        if placement.headroom is None:
            placement = placement.model_copy(update={"headroom": self.headroom})
        if not budget.prices:
            budget = budget.model_copy(update={"prices": self.prices})
        return spec.model_copy(update={"placement": placement, "budget": budget})


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
    classes: list[DeclaredClass] = Field(default_factory=list)
    """The cluster's GPUs, instead of what its nodes say: for an operator that may not read nodes."""
    node_lost_seconds: Annotated[int, Field(ge=1)] = 300
    """A run whose node does not answer for so long is given up and tried again elsewhere. Should its trainer still run,
    its results do not count, and it writes into its own folder only."""
    time_slicing: bool = False
    """Use GPUs that are shared by time-slicing. By default not: their memory is not divided, so
    nothing can be planned."""
    headroom: Annotated[float, Field(ge=0, le=2)] = HEADROOM
    """placement.headroom of studies that say none: share added to a predicted peak before it is compared with a GPU's
    usable memory."""
    prices: Annotated[list[Price], Field(max_length=64)] = Field(default_factory=list)
    """budget.prices of studies that give none: what an hour on one GPU of each memory class costs."""
    memory: Memory = "cuda"
    """Whose memory profiles foretell: that of GPUs, or of CPUs that keep to a declared amount, or none."""
    tick_seconds: Annotated[float, Field(gt=0)] = 2.0
    """A study is looked at so often while it runs; changes in the cluster wake it earlier."""
    linger_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a trainer waits for its last values to be read; it is released as soon as they were."""
    grace_seconds: Annotated[int, Field(ge=1)] = 60
    """Between a trainer's SIGTERM and its end: time to write checkpoints."""
    cleanup_seconds: Annotated[int, Field(ge=0)] = 120
    """How long a Job may take that removes checkpoints nobody needs any more, and how long the deletion of a study
    waits for it. 0 keeps all checkpoints."""
    keep_jobs_seconds: Annotated[int, Field(ge=0)] = 300
    """How long Jobs of ended runs stay, for their logs."""
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    """Where studies of source Prometheus take their scores from. Of the operator only, never of a study."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Two prices for one thing."""
        for index, message in priced_twice(self.prices):
            yield ("prices", index, "memoryClass"), message

    @property
    def defaults(self) -> StudyDefaults:
        """What a study that is accepted now is completed with."""
        return StudyDefaults(headroom=self.headroom, prices=self.prices)


class SettingsError(ValueError):
    """Settings that cannot be used: everything that is wrong, each with its field and what helps."""


def load_settings(path: Path | None, prometheus_url: str | None = None, **given: Any) -> OperatorSettings:
    """Settings from a YAML file, with those that are given and not None on top.

    Args:
        path: of the file, None for the defaults.
        prometheus_url: instead of the file's prometheus.url.
        given: others, by their names in `OperatorSettings`.

    Raises:
        SettingsError: the file cannot be read, or something in it is wrong.
    """
    document: Any = {}
    if path is not None:
        try:
            document = YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise SettingsError(f"{path}: {error}") from error
    place = "settings" if path is None else str(path)
    if not isinstance(document, dict):
        raise SettingsError(f"{place}: must be lines of `name: value`")
    if prometheus_url is not None:
        document = {**document, "prometheus": {**(document.get("prometheus") or {}), "url": prometheus_url}}
    try:
        base = OperatorSettings.model_validate(document)
    except pydantic.ValidationError as error:
        raise SettingsError("\n".join(f"{place}: {line}" for line in _problems(error, document))) from error
    return base.model_copy(update={name: value for name, value in given.items() if value is not None})


def _problems(error: pydantic.ValidationError, document: Any) -> Iterator[str]:
    """Each field that is wrong, in words."""
    grouped: dict[FieldPath, list[ErrorDetails]] = {}
    for detail in error.errors():
        grouped.setdefault(plain_path(detail, document), []).append(detail)
    for path, details in grouped.items():
        inner = details[0].get("ctx", {}).get("error")
        if isinstance(inner, SectionError):
            yield from (f"{_dotted((*path, *below))}: {text}" for below, text in inner.problems)
        elif details[0]["type"] == "extra_forbidden":
            model = model_at(OperatorSettings, path[:-1])
            meant = nearest(str(path[-1]), known_keys(model)) if model is not None else None
            yield f"{_dotted(path)}: there is no such setting" + (f"; did you mean {meant}?" if meant else "")
        else:
            yield f"{_dotted(path)}: {describe(details)}"


def _dotted(path: FieldPath) -> str:
    return ".".join(map(str, path))
