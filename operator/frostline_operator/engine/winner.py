"""A study's winner as a study of its own: one trial, trained alone and in full."""

from __future__ import annotations

from frostline_operator.api.bindings import OPTIMIZER_OF, bind
from frostline_operator.api.loader import validate_study
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.search import BudgetSpec, FidelitySpec, RungSpec, SearchSpec
from frostline_operator.api.study import HPOStudy
from frostline_operator.api.targets import target_of
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.space import Assignment
from frostline_trainer.contract import OptimizerSpec, TrainingSpec

_LONGEST_NAME = 40
_SUFFIX = "-best"


def winner_study(study: HPOStudy, plan: Plan, assignment: Assignment) -> HPOStudy:
    """A study of one trial with a configuration: all layers, to the tokens of the study's highest rung.

    Hyperparameters are constants, bound to the fields that they were bound to. Those whose condition does not hold, and
    fields that the configuration's optimizer does not read, are left out, as the loader asks. Goal and budget are of
    the search and are left out too; prices are kept.

    Args:
        study: that the configuration is of.
        plan: of the study.
        assignment: the configuration.

    Raises:
        BindingError: the assignment does not fit the study.
        StudyError: the loader refuses the configuration.
    """
    spec = study.spec
    optimizer = bind(spec.parameters, spec.base, assignment).training.optimizer.name
    unread = {field for field, readers in OPTIMIZER_OF.items() if optimizer not in readers}
    repeated = spec.model_copy(
        update={
            "parameters": [
                Parameter(name=p.name, type="Constant", value=assignment[p.name], bind=p.bind)
                for p in spec.parameters
                if p.name in assignment and not _sets(p, unread)
            ],
            "objective": spec.objective.model_copy(update={"goal": None}),
            "search": SearchSpec(algorithm="SuccessiveHalving", trials=1, seed=spec.search.seed),
            "fidelity": FidelitySpec(rungs=[RungSpec(layers="All", tokens=plan.rungs[plan.top].tokens)]),
            "budget": BudgetSpec(prices=spec.budget.prices),
            "training": _at_the_top(spec.training, plan, unread),
            "suspend": False,
        }
    )
    document = study.model_copy(update={"spec": repeated}).model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude_none=True
    )
    name = study.metadata.name[: _LONGEST_NAME - len(_SUFFIX)].rstrip("-") + _SUFFIX
    document |= {"apiVersion": study.api_version, "kind": study.kind, "metadata": {"name": name}}
    return validate_study(document, name)


def _sets(parameter: Parameter, fields: set[str]) -> bool:
    """Whether it is bound to one of these fields of the optimizer."""
    target = target_of(parameter)
    return target is not None and target.path[:-1] == ("training", "optimizer") and target.path[-1] in fields


def _at_the_top(training: TrainingSpec, plan: Plan, unread: set[str]) -> TrainingSpec:
    """The training with the highest rung's factor alone, and what the optimizer does not read at its default."""
    defaults = {field: OptimizerSpec.model_fields[field].default for field in unread}
    factors = None if training.depth_factors is None else training.depth_factors[plan.top : plan.top + 1] or None
    optimizer = training.optimizer.model_copy(update=defaults)
    return training.model_copy(update={"optimizer": optimizer, "depth_factors": factors})
