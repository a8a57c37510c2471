"""`HPOStudy`: one search, as a person writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from frostline_operator.api.bindings import Bound
from frostline_operator.api.checks import Sections, cross_problems
from frostline_operator.api.metrics import MetricsSpec
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.quantity import Duration
from frostline_operator.api.search import (
    BudgetSpec,
    FidelitySpec,
    Objective,
    PlacementSpec,
    SearchSpec,
    TrustSpec,
)
from frostline_trainer.contract import DataSpec, FieldPath, ModelSpec, Section, TrainingSpec

GROUP = "hpo.frostline.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["hpo.frostline.dev/v1alpha1"] = "hpo.frostline.dev/v1alpha1"


class PodTemplate(Section):
    """Overrides merged into the pods that train: tolerations, a priority class, volumes, labels and so on."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    """Labels and annotations to add."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """Of the pod, as Kubernetes has it; containers are merged by name, the trainer's is called `trainer`."""


Promotion = Literal["RestartOnThaw", "Continue", "Restart"]


class HPOStudySpec(Section):
    """What to tune, how to search, and within what budget."""

    objective: Objective = Field(default_factory=Objective)
    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=100)]
    search: SearchSpec = Field(default_factory=SearchSpec)
    fidelity: FidelitySpec
    model: ModelSpec
    data: DataSpec
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    placement: PlacementSpec = Field(default_factory=PlacementSpec)
    promotion: Promotion = "RestartOnThaw"
    """RestartOnThaw: a promoted trial goes on from its checkpoint while it trains the same layers, and starts over at a
    rung that thaws more. Continue: it always goes on, which is cheaper, but ranks trials by layers that began late.
    Restart: it always starts over, as in the Frozen Layers paper."""
    checkpoint_interval: Duration = "10m"
    """How often a run writes checkpoints on the way, from which it goes on elsewhere if it is killed without warning,
    such as with its node; rarer where writing would take more than a twentieth of the time."""
    trust: TrustSpec = Field(default_factory=TrustSpec)
    metrics: MetricsSpec = Field(default_factory=MetricsSpec)
    template: PodTemplate = Field(default_factory=PodTemplate)
    """Overrides merged into the trainer's pod template; not used on a single machine."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Among studies that want the same GPUs of a cluster: higher ones are served first, equal ones in turn."""
    suspend: bool = False
    """Stop all runs with checkpoints and start none until it is false again."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Everything that must hold between sections; see `frostline_operator.api.checks`."""
        sections = Sections(
            self.objective, self.parameters, self.search, self.fidelity, self.model, self.data, self.training,
            self.budget, self.promotion,
        )  # fmt: skip
        yield from cross_problems(sections)

    @property
    def base(self) -> Bound:
        """The sections that hyperparameters are bound to, with the study's own values; see `bindings.bind`."""
        return Bound(self.model, self.data, self.training)


class ObjectMeta(Section):
    """The part of Kubernetes' metadata that Frostline reads."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
    """Lower-case letters, digits and dashes; at most 40 characters, because run names are made from it."""
    namespace: str = "default"
    uid: str | None = None


class HPOStudy(Section):
    """One search: hyperparameters of a network, tuned within a budget by training its last layers first."""

    api_version: Literal["hpo.frostline.dev/v1alpha1"] = API_VERSION
    kind: Literal["HPOStudy"] = "HPOStudy"
    metadata: ObjectMeta
    spec: HPOStudySpec
