"""The peers, each as its own documentation uses it: one function per search, which trains through the session.

All of them see the same space and the same eight resource levels, with eta 2, so that their rungs are 1/8, 1/4, 1/2 and
all of the tokens. A trial that goes on pays for the difference only. Nothing here may be imported by the product.
"""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.session import BudgetSpent, Session

LEVELS = 8
"""Resource levels a search may stop at: eighths of the tokens."""
ETA = 2
PRIOR = {"lr": 1e-3, "weightDecay": 1e-2, "optimizer": "AdamW", "warmup": 0.05, "labelSmoothing": 0.05, "clipping": 1.0}
"""What somebody would try first: the prior of those searches that ask for one."""

Search = Callable[[Session, int], None]


def level(session: Session, configuration: int, before: int, until: int) -> float:
    """Train from one level to another."""
    part = session.family.tokens / LEVELS
    return session.train(configuration, before * part, until * part)


def random_search(session: Session, seed: int) -> None:
    """Every configuration in full."""
    generator = np.random.default_rng(seed)
    try:
        while True:
            session.trials += 1
            drawn = {p["name"]: _draw(p, generator) for p in session.family.parameters}
            level(session, session.family.nearest(drawn), 0, LEVELS)
    except BudgetSpent:
        return


def _draw(parameter: dict[str, Any], generator: np.random.Generator) -> Any:
    if parameter["type"] == "Categorical":
        return parameter["values"][generator.integers(len(parameter["values"]))]
    low, high = parameter["min"], parameter["max"]
    if parameter.get("scale") == "Log":
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))
    return float(generator.uniform(low, high))


# --- Optuna -----------------------------------------------------------------------------------------------------------


def optuna_search(make_pruner: Callable[[Any], Any]) -> Search:
    """TPE with a pruner."""

    def search(session: Session, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=make_pruner(optuna.pruners))

        def objective(trial: Any) -> float:
            session.trials += 1
            drawn = {p["name"]: _suggest(trial, p) for p in session.family.parameters}
            configuration = session.family.nearest(drawn)
            value = 0.0
            for step in range(1, LEVELS + 1):
                try:
                    value = level(session, configuration, step - 1, step)
                except BudgetSpent:
                    study.stop()
                    raise optuna.TrialPruned from None
                trial.report(value, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return value

        study.optimize(objective)

    return search


def _suggest(trial: Any, parameter: dict[str, Any]) -> Any:
    if parameter["type"] == "Categorical":
        return trial.suggest_categorical(parameter["name"], parameter["values"])
    log = parameter.get("scale") == "Log"
    return trial.suggest_float(parameter["name"], parameter["min"], parameter["max"], log=log)


# --- NePS -------------------------------------------------------------------------------------------------------------


def neps_search(name: str, prior: bool = False, **settings: Any) -> Search:
    """One of NePS's bracket optimizers through its ask-and-tell interface."""

    def search(session: Session, seed: int) -> None:
        import neps
        import torch

        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        fields: dict[str, Any] = {p["name"]: _neps_parameter(neps, p, prior) for p in session.family.parameters}
        fields["level"] = neps.IntegerFidelity(1, LEVELS)
        space = type("Space", (neps.PipelineSpace,), fields)()
        asking = neps.AskAndTell(getattr(neps.algorithms, name)(space, eta=ETA, **settings))
        reached: dict[str, int] = {}
        try:
            while True:
                trial = asking.ask()
                drawn = dict(trial.config)
                until = int(drawn.pop("level"))
                configuration = session.family.nearest(drawn)
                before = reached.get(trial.metadata.previous_trial_id or "", 0)
                session.trials += before == 0
                value = level(session, configuration, min(before, until - 1), until)
                reached[trial.metadata.id] = until
                asking.tell(trial, value)
        except BudgetSpent:
            return

    return search


def _neps_parameter(neps: Any, parameter: dict[str, Any], prior: bool) -> Any:
    name = parameter["name"]
    if parameter["type"] == "Categorical":
        choices = tuple(parameter["values"])
        known = {"prior": choices.index(PRIOR[name]), "prior_confidence": "medium"} if prior else {}
        return neps.Categorical(choices, **known)
    known = {"prior": PRIOR[name], "prior_confidence": "medium"} if prior else {}
    return neps.Float(parameter["min"], parameter["max"], log=parameter.get("scale") == "Log", **known)


# --- Syne Tune --------------------------------------------------------------------------------------------------------


def syne_search(name: str) -> Search:
    """One of Syne Tune's asynchronous halving schedulers, called as its Tuner calls it with one worker."""

    def search(session: Session, seed: int) -> None:
        import datetime

        from syne_tune import config_space
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer import baselines
        from syne_tune.optimizer.scheduler import SchedulerDecision

        np.random.seed(seed)
        space = {p["name"]: _syne_parameter(config_space, p) for p in session.family.parameters}
        scheduler = getattr(baselines, name)(
            space,
            metric="loss",
            time_attr="level",
            max_t=LEVELS,
            grace_period=1,
            reduction_factor=ETA,
            random_seed=seed,
        )
        try:
            while True:
                trial = Trial(session.trials, scheduler.suggest().config, datetime.datetime.now())
                session.trials += 1
                scheduler.on_trial_add(trial)
                configuration = session.family.nearest(trial.config)
                for step in range(1, LEVELS + 1):
                    result = {"loss": level(session, configuration, step - 1, step), "level": step}
                    if step == LEVELS:
                        scheduler.on_trial_complete(trial, result)
                    elif scheduler.on_trial_result(trial, result) == SchedulerDecision.STOP:
                        break
        except BudgetSpent:
            return

    return search


def _syne_parameter(config_space: Any, parameter: dict[str, Any]) -> Any:
    if parameter["type"] == "Categorical":
        return config_space.choice(parameter["values"])
    domain = config_space.loguniform if parameter.get("scale") == "Log" else config_space.uniform
    return domain(parameter["min"], parameter["max"])


# --- Ray Tune ---------------------------------------------------------------------------------------------------------


def ray_search(session: Session, seed: int) -> None:
    """Ray Tune's ASHA with one worker, in a real Ray runtime; the cost is added up in the order of its reports."""
    from ray import tune

    part = session.family.tokens / LEVELS
    price = session.price(session.family.layers, part)
    family = session.family

    def trainable(drawn: dict[str, Any]) -> None:
        configuration = family.nearest(drawn)
        for step in range(1, LEVELS + 1):
            value = session.told(family.value(configuration, family.layers, step * part))
            tune.report({"loss": value, "level": step, "configuration": configuration})

    class Booking(tune.Callback):
        """Charges each report; says when the budget is spent."""

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            session.trials += 1

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            if session.spent + price <= session.budget:
                session.train(result["configuration"], (result["level"] - 1) * part, result["level"] * part)
            else:
                session.spent = session.budget

    class Spent(tune.Stopper):
        """Ends the trial at hand, and with it the search, once the budget is spent."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return self.stop_all()

        def stop_all(self) -> bool:
            return session.spent >= session.budget

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            trainable,
            param_space={p["name"]: _ray_parameter(tune, p) for p in family.parameters},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=-1,
                max_concurrent_trials=1,
                reuse_actors=True,
                search_alg=tune.search.BasicVariantGenerator(max_concurrent=1, random_state=seed),
                scheduler=tune.schedulers.ASHAScheduler(
                    time_attr="level", max_t=LEVELS, grace_period=1, reduction_factor=ETA
                ),
            ),
            run_config=tune.RunConfig(stop=Spent(), callbacks=[Booking()], verbose=0, storage_path=folder),
        )
        tuner.fit()


def _ray_parameter(tune: Any, parameter: dict[str, Any]) -> Any:
    if parameter["type"] == "Categorical":
        return tune.choice(parameter["values"])
    domain = tune.loguniform if parameter.get("scale") == "Log" else tune.uniform
    return domain(parameter["min"], parameter["max"])


TOOLS: dict[str, Search] = {
    "random search": random_search,
    "optuna TPE": optuna_search(lambda pruners: pruners.NopPruner()),
    "optuna TPE + Hyperband": optuna_search(lambda pruners: pruners.HyperbandPruner(1, LEVELS, ETA)),
    "optuna TPE + halving": optuna_search(lambda pruners: pruners.SuccessiveHalvingPruner(1, ETA)),
    "neps Hyperband": neps_search("hyperband"),
    "neps ASHA": neps_search("asha"),
    "neps PriorBand": neps_search("priorband", prior=True),
    "syne-tune ASHA": syne_search("ASHA"),
    "syne-tune BOHB": syne_search("BOHB"),
    "syne-tune ASHA-CQR": syne_search("ASHACQR"),
    "ray ASHA": ray_search,
}


def quiet() -> None:
    """Searches talk; their results are what counts."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
