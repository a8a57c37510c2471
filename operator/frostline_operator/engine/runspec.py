"""The document that a run is started with."""

from __future__ import annotations

from frostline_operator.api.bindings import bind
from frostline_operator.api.quantity import parse_bytes, parse_duration
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import depth_transfer
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.state import Run, StudyState, Trial
from frostline_trainer.contract import CheckpointRef, RunSpec, TrialSpec


def run_spec(
    study: str,
    uid: str,
    spec: HPOStudySpec,
    plan: Plan,
    state: StudyState,
    run: Run,
    *,
    checkpoint: str,
    metrics_port: int,
    linger_seconds: float,
    metrics_file: str | None = None,
    memory_limit: int | None = None,
) -> RunSpec:
    """What the trainer needs to know of a run, and nothing of how it came about.

    Where promoted trials may go on from checkpoints, the learning-rate schedule extends over the whole study; with
    promotion Restart each rung has a schedule of its own, which it runs through (arXiv 2504.10735).
    """
    first = bind(spec.parameters, spec.base, state.trials[run.trials[0]].assignment)
    restart = spec.promotion == "Restart"
    return RunSpec(
        study=study,
        study_uid=uid,
        run=run.name,
        rung=run.rung,
        layers=run.layers,
        tokens=run.tokens,
        horizon=run.tokens if restart else plan.rungs[-1].tokens,
        trials=[_trial(spec, plan, state, run, index) for index in run.trials],
        model=first.model,
        data=first.data,
        metric=spec.objective.metric,
        seed=spec.search.seed,
        checkpoint=checkpoint,
        checkpoint_seconds=parse_duration(spec.checkpoint_interval),
        metrics_port=metrics_port,
        metrics_file=metrics_file,
        linger_seconds=linger_seconds,
        memory_limit=memory_limit,
        cache_bytes=parse_bytes(spec.placement.prefix_cache),
        cache_disk_bytes=parse_bytes(spec.placement.prefix_cache_disk),
    )


def winner_spec(study: str, uid: str, spec: HPOStudySpec, trial: Trial, checkpoint: str) -> RunSpec:
    """The document of a run that would go on from a trial's checkpoint: all that it takes to put its network together.

    Args:
        study: its name.
        uid: of the study.
        spec: of the study.
        trial: with a checkpoint.
        checkpoint: the study's folder of checkpoints.
    """
    assert trial.checkpoint is not None
    bound = bind(spec.parameters, spec.base, trial.assignment)
    own = TrialSpec(name=trial.name, hyperparameters=trial.assignment, training=bound.training, parent=trial.checkpoint)
    return RunSpec(
        study=study,
        study_uid=uid,
        run="export",
        rung=trial.checkpoint_rung or 0,
        layers=trial.checkpoint.layers,
        tokens=trial.checkpoint.tokens,
        horizon=trial.checkpoint.tokens,
        trials=[own],
        model=bound.model,
        data=bound.data,
        metric=spec.objective.metric,
        seed=spec.search.seed,
        checkpoint=checkpoint,
    )


def _trial(spec: HPOStudySpec, plan: Plan, state: StudyState, run: Run, index: int) -> TrialSpec:
    """A trial's part: its hyperparameters as they were drawn, and its training as it is at this rung's depth."""
    trial = state.trials[index]
    training = bind(spec.parameters, spec.base, trial.assignment).training
    return TrialSpec(
        name=trial.name,
        hyperparameters=trial.assignment,
        training=depth_transfer.transferred(training, run.rung, run.layers, plan.layers),
        parent=_parent(trial.checkpoint, run),
    )


def _parent(checkpoint: CheckpointRef | None, run: Run) -> CheckpointRef | None:
    """The checkpoint, where the run was planned to start from it."""
    return checkpoint if checkpoint is not None and run.start_tokens > 0 else None
