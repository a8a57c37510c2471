"""`HPOStudy`: one search, as a person writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.search import (
    BudgetSpec,
    FidelitySpec,
    MetricsSpec,
    Objective,
    PlacementSpec,
    SearchSpec,
    TrustSpec,
)
from frostline_trainer.contract import DataSpec, ModelSpec, Section, TrainingSpec

GROUP = "hpo.frostline.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


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
    promotion: Literal["Continue", "Restart"] = "Continue"
    """Continue: a promoted trial goes on from its checkpoint with more layers thawed. Restart: it starts over at the
    higher fidelity, as in the Frozen Layers paper."""
    trust: TrustSpec = Field(default_factory=TrustSpec)
    metrics: MetricsSpec = Field(default_factory=MetricsSpec)
    template: dict[str, Any] = Field(default_factory=dict)
    """Overrides merged into the trainer's pod template (`spec`, `metadata`); not used on a single machine."""
    suspend: bool = False
    """Stop all runs with checkpoints and start none until it is false again."""

    @model_validator(mode="after")
    def _parameters_fit_together(self) -> HPOStudySpec:
        earlier: dict[str, Parameter] = {}
        for parameter in self.parameters:
            if parameter.name in earlier:
                raise ValueError(f"parameters names {parameter.name!r} twice; rename one")
            if parameter.when is not None:
                self._check_condition(parameter, earlier)
            earlier[parameter.name] = parameter
        return self

    @staticmethod
    def _check_condition(parameter: Parameter, earlier: dict[str, Parameter]) -> None:
        assert parameter.when is not None
        parent = earlier.get(parameter.when.parameter)
        if parent is None:
            raise ValueError(
                f"parameters.{parameter.name}.when refers to {parameter.when.parameter!r}, "
                "which is not declared before it"
            )
        if parent.values is not None:
            unknown = [value for value in parameter.when.values if value not in parent.values]
            if unknown:
                raise ValueError(
                    f"parameters.{parameter.name}.when: {parent.name} never is {unknown[0]!r}; "
                    f"it is one of {parent.values}"
                )

    @model_validator(mode="after")
    def _something_ends_it(self) -> HPOStudySpec:
        limits = self.budget
        open_ended = all(
            limit is None
            for limit in (limits.trials, limits.tokens, limits.gpu_seconds, limits.wall_clock, limits.cost)
        )
        if self.search.trials is None and open_ended and self.search.sampler != "Grid":
            raise ValueError("nothing ends this study: give search.trials or a budget")
        return self


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

    api_version: Literal["hpo.frostline.dev/v1alpha1"] = "hpo.frostline.dev/v1alpha1"
    kind: Literal["HPOStudy"] = "HPOStudy"
    metadata: ObjectMeta
    spec: HPOStudySpec
