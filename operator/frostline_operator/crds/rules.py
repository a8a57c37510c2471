"""What must hold between fields, in CEL: the API server refuses the object and shows the message.

They say the same as the `problems` of the models, which a property test on a real API server holds them to. Scalars of
any type cannot be read in CEL; what concerns them is left to the operator (condition Accepted=False). Null fields count
as absent. What must not change once a study has results is here too, also where the API server cannot see a change.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from frostline_operator.api.parameters import MOST_STEPS
from frostline_operator.api.study import HPOStudySpec

Rule = dict[str, Any]

IMMUTABLE = (
    "objective", "parameters", "fidelity", "model", "data", "training", "placement", "promotion",
)  # fmt: skip
"""Sections of a study that are fixed once it runs: results of different studies cannot be mixed."""
IMMUTABLE_SEARCH = ("algorithm", "sampler", "gridPoints", "initial", "eta", "seed", "trials", "maxTrialsPerRun")
"""Of search, all but parallelism."""

_WHOLE = "(self.{0} <= -9.0e15 || self.{0} >= 9.0e15 || double(int(self.{0})) == self.{0})"
_RANGE = "self.type in ['Float', 'Int']"


def _rule(rule: str, message: str, field: str | None = None) -> Rule:
    rule_object: Rule = {"rule": rule, "message": message}
    if field is not None:
        rule_object["fieldPath"] = f".{field}"
    return rule_object


def _fixed(rule: str, message: str, field: str) -> Rule:
    """A rule that holds from the first run on: before it, what is wrong with a study can be corrected.

    The operator sets status.startTime before it makes the first run, and never removes it. Should a change come between
    the two, the operator refuses it by the journal (condition Accepted).
    """
    return _rule(f"!has(oldSelf.status) || !has(oldSelf.status.startTime) || ({rule})", message, field)


def _only_for(field: str, unset: str, families: list[str]) -> Rule:
    text = f"{field} is for family {' or '.join(families)}; remove it or set family: {families[0]}"
    return _rule(f"{unset} || self.family in {families}", text, field)


def _only_for_kind(field: str, unset: str, kind: str) -> Rule:
    return _rule(
        f"{unset} || self.kind == '{kind}'", f"{field} is for kind {kind}; remove it or set kind: {kind}", field
    )


def _needs(field: str, family: str, example: str) -> Rule:
    given = f"self.{field}.size() > 0" if field == "hidden" else f"has(self.{field})"
    return _rule(f"self.family != '{family}' || {given}", f"family {family} needs {field}, {example}", field)


def _positive_duration(field: str) -> Rule:
    return _rule(
        f"!has(self.{field}) || self.{field}.matches('[1-9]')",
        f"{field} is no time at all; give at least 1s, such as 90s, 15m or 1h30m",
        field,
    )


_RULES: dict[str, list[Rule]] = {
    "LayerRange": [
        _rule(
            "type(self.min) != int || type(self.max) != int || int(self.min) <= int(self.max)",
            "min must be at most max; lower it",
            "min",
        ),
        _rule(
            "type(self.min) == int || string(self.min) != 'All' || type(self.max) != int",
            "min: All trains every layer at every rung, so there is no other max; remove max",
            "max",
        ),
    ],
    "AmountRange": [
        _rule(
            "!has(self.min) || type(self.min) != int || int(self.min) <= self.max",
            "min must be at most max; lower it",
            "min",
        ),
    ],
    "FidelitySpec": [
        _rule(
            "has(self.rungs) || has(self.tokens) || has(self.samples)",
            "needs tokens (language models) or samples (images, tables), such as samples: {max: 100000}",
        ),
        _rule(
            "has(self.rungs) || !has(self.tokens) || !has(self.samples)",
            "tokens and samples are two units of one thing; keep the one your model is fed by",
        ),
        _rule(
            "!has(self.rungs) || (!has(self.tokens) && !has(self.samples) && type(self.layers.min) != int "
            "&& string(self.layers.min) == 'Half' && type(self.layers.max) != int)",
            "rungs is the whole schedule; remove layers, tokens and samples, or remove rungs",
        ),
        _rule(
            "!has(self.rungs) || self.rungs.map(r, r.tokens).isSorted()",
            "rungs must ascend: each needs at least the tokens of the one before",
            "rungs",
        ),
        _rule(
            "!has(self.rungs) || self.rungs.map(r, type(r.layers) == int ? int(r.layers) : 1000000000).isSorted()",
            "rungs must ascend: each needs at least the layers of the one before, and All comes last",
            "rungs",
        ),
        _rule(
            "!has(self.rungs) || self.rungs.all(r, self.rungs.filter(o, o.tokens == r.tokens && "
            "o.layers == r.layers).size() == 1)",
            "two rungs are the same; remove one, or raise layers or tokens",
            "rungs",
        ),
    ],
    "Parameter": [
        _rule(f"!({_RANGE}) || (has(self.min) && has(self.max))", "types Float and Int need min and max; add them"),
        _rule(
            f"{_RANGE} || (!has(self.min) && !has(self.max) && !has(self.step) && self.scale == 'Linear')",
            "min, max, step and scale are for types Float and Int; remove them",
        ),
        *(
            _rule(
                f"self.type != 'Int' || !has(self.{field}) || {_WHOLE.format(field)}",
                f"{field} must be a whole number for type Int; round it or set type: Float",
                field,
            )
            for field in ("min", "max", "step")
        ),
        _rule(
            "!has(self.min) || !has(self.max) || self.min < self.max",
            "max must be above min; for one value use type: Constant",
            "max",
        ),
        _rule(
            "!has(self.min) || !has(self.max) || !has(self.step) || self.scale != 'Linear' || "
            "self.min >= self.max || self.step <= self.max - self.min",
            "step must be at most max - min; lower it",
            "step",
        ),
        _rule(
            "!has(self.min) || !has(self.max) || !has(self.step) || self.scale != 'Linear' || "
            f"self.min >= self.max || (self.max - self.min) / self.step <= {float(MOST_STEPS)}",
            f"step makes more than {MOST_STEPS:,} values; remove it, or raise it",
            "step",
        ),
        _rule(
            "self.scale != 'Log' || !has(self.min) || self.min > 0.0",
            "min must be above 0 for scale Log; raise it or set scale: Linear",
            "min",
        ),
        _rule(
            "self.scale != 'Log' || !has(self.step)", "step goes with scale Linear only; remove one of the two", "step"
        ),
    ],
    "TrainingSpec": [
        _rule(
            "!has(self.depthFactors) || self.depthTransfer != 'Auto'",
            "depthFactors stand instead of depthTransfer: Auto; keep one of the two",
            "depthFactors",
        ),
    ],
    "SearchSpec": [
        _rule(
            "self.sampler != 'Model' || self.algorithm == 'ASHA'",
            "Model proposes from results, and only ASHA draws after there are any; set algorithm: ASHA",
            "sampler",
        ),
    ],
    "BudgetSpec": [
        _positive_duration("wallClock"),
    ],
    "MetricsSpec": [
        _positive_duration("interval"),
        _positive_duration("patience"),
        *(
            _rule(
                f"!has(self.source) || self.source != 'Scrape' || {unset}",
                f"{field} is for source Prometheus; remove it, or set source: Prometheus",
                field,
            )
            for field, unset in (
                ("query", "!has(self.query)"),
                ("patience", "!has(self.patience)"),
                ("whenMissing", "self.whenMissing == 'Record'"),
            )
        ),
        _rule(
            "!has(self.patience) || self.whenMissing != 'Wait'",
            "whenMissing: Wait waits for as long as it takes; remove patience, or set Record",
            "patience",
        ),
    ],
    "QueryLabels": [
        _rule("self.trial != self.rung", "rung and trial are two labels; name another one", "rung"),
        _rule(
            "!has(self.run) || (self.run != self.trial && self.run != self.rung)",
            "run is a label besides trial and rung; name another one",
            "run",
        ),
    ],
    "ModelSpec": [
        _needs("name", "Vision", "a torchvision builder such as resnet18"),
        _needs("hidden", "MLP", "the widths of its hidden layers, such as [256, 256, 256]"),
        _needs("entrypoint", "Custom", "written package.module:function"),
        _only_for("name", "!has(self.name)", ["Vision"]),
        _only_for("pretrained", "!has(self.pretrained)", ["CausalLM", "Vision", "MLP"]),
        _only_for("hidden", "self.hidden.size() == 0", ["MLP"]),
        _only_for("activation", "self.activation == 'relu'", ["MLP"]),
        _only_for("entrypoint", "!has(self.entrypoint)", ["Custom"]),
    ],
    "DataSpec": [
        _rule(
            "self.kind != 'None' || (!has(self.builtin) && !has(self.path))",
            "kind None takes no builtin and no path: the entrypoint brings its own data; remove one of the two",
        ),
        _rule(
            "self.kind == 'None' || has(self.builtin) || has(self.path)",
            "gives no source; add path, or builtin to try things out",
        ),
        _rule(
            "self.kind == 'None' || !has(self.builtin) || !has(self.path)",
            "builtin and path are two sources; remove one of the two",
            "path",
        ),
        _rule(
            "!has(self.builtin) || self.kind == 'None' || self.builtin == "
            "{'Text': 'python-docs', 'Images': 'digits', 'Table': 'breast-cancer'}[self.kind]",
            "this data is of another kind: python-docs is Text, digits is Images, breast-cancer is Table",
            "builtin",
        ),
        _only_for_kind("torchvision", "!has(self.torchvision)", "Images"),
        _only_for_kind("tokenizer", "self.tokenizer == 'bytes'", "Text"),
        _only_for_kind("textColumn", "self.textColumn == 'text'", "Text"),
        _only_for_kind("targetColumn", "self.targetColumn == 'target'", "Table"),
        _only_for_kind("imageSize", "!has(self.imageSize)", "Images"),
        _only_for_kind("augment", "!self.augment", "Images"),
        _rule(
            "!has(self.torchvision) || has(self.path)",
            "torchvision needs path, the data set's root folder (nothing is downloaded); add it",
            "torchvision",
        ),
    ],
    "HPOStudySpec": [
        _positive_duration("checkpointInterval"),
        _rule(
            "has(self.search.trials) || self.search.sampler == 'Grid' || has(self.budget.trials) || "
            "has(self.budget.tokens) || has(self.budget.gpuSeconds) || has(self.budget.wallClock) || "
            "has(self.budget.cost)",
            "nothing ends this study; give search.trials, or a limit under budget",
        ),
        _rule(
            "!(self.objective.metric in ['loss', 'perplexity', 'error', 'mse', 'rmse', 'mae']) || "
            "self.objective.direction == 'Minimize'",
            "this metric is better when lower; set direction: Minimize",
            "objective.direction",
        ),
        _rule(
            "!(self.objective.metric in ['accuracy', 'r2']) || self.objective.direction == 'Maximize'",
            "this metric is better when higher; set direction: Maximize",
            "objective.direction",
        ),
        _rule(
            "self.model.family == 'Custom' || self.objective.metric in (self.data.task == 'Regression' ? "
            "['loss', 'mse', 'rmse', 'mae', 'r2'] : ['loss', 'perplexity', 'accuracy', 'error'])",
            "built-in families report loss, perplexity, accuracy and error, or with data.task: Regression loss, mse, "
            "rmse, mae and r2; use one of them",
            "objective.metric",
        ),
        _rule(
            "self.model.family == 'Custom' || self.data.kind == "
            "{'CausalLM': 'Text', 'Vision': 'Images', 'MLP': 'Table'}[self.model.family]",
            "CausalLM trains on Text, Vision on Images, MLP on Table; set kind, or family",
            "data.kind",
        ),
        _rule(
            "self.model.family != 'CausalLM' || has(self.fidelity.rungs) || !has(self.fidelity.samples)",
            "a language model is fed by tokens; rename samples to tokens",
            "fidelity.samples",
        ),
        _rule(
            "self.model.family in ['CausalLM', 'Custom'] || has(self.fidelity.rungs) || !has(self.fidelity.tokens)",
            "Vision and MLP models are fed by samples; rename tokens to samples",
            "fidelity.tokens",
        ),
    ],
    "HPOStudy": [
        _rule(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
            "metadata.name takes lower-case letters, digits and dashes, at most 40, because run names are made from it",
        ),
        *(
            _fixed(
                f"self.spec.{section} == oldSelf.spec.{section}",
                f"{section} cannot change once a study runs: results of different studies cannot be mixed; make a new "
                "study",
                f"spec.{section}",
            )
            for section in IMMUTABLE
        ),
        *(
            _fixed(
                f"self.spec.search.{field} == oldSelf.spec.search.{field}"
                if field != "trials"
                else "has(self.spec.search.trials) == has(oldSelf.spec.search.trials) && "
                "(!has(self.spec.search.trials) || self.spec.search.trials == oldSelf.spec.search.trials)",
                f"search.{field} cannot change once a study runs (parallelism and budget can); make a new study",
                f"spec.search.{field}",
            )
            for field in IMMUTABLE_SEARCH
            if field != "initial"
        ),
    ],
    "HPOTrialSpec": [_rule("self == oldSelf", "a trial's configuration never changes")],
}
_LIST_KEYS: dict[str, dict[str, str]] = {
    "HPOStudySpec": {"parameters": "name"},
    "BudgetSpec": {"prices": "memoryClass"},
    "HPOStudyStatus": {"conditions": "type"},
    "HPOTrialStatus": {"conditions": "type"},
}


def rules_of(section: str) -> list[Rule]:
    """The rules of a section, by its model's name."""
    return [dict(rule) for rule in _RULES.get(section, [])]


def list_keys(section: str) -> dict[str, str]:
    """Which lists of a section are told apart by a key, and by which: the API server then refuses two of one key."""
    return _LIST_KEYS.get(section, {})


_DIGESTS = "2:"
"""Format of the digests, so that those of a release that took defaults in are told apart."""


def fixed_part(spec: HPOStudySpec) -> dict[str, str]:
    """A digest of each section that is fixed, over what differs from its default.

    So a field that a newer release adds changes no digest of a study that was begun before it.
    """
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    parts: dict[str, Any] = {name: document.get(name) for name in IMMUTABLE}
    parts |= {f"search.{name}": document.get("search", {}).get(name) for name in IMMUTABLE_SEARCH}
    return {
        f"spec.{name}": _DIGESTS + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
        for name, value in parts.items()
    }


def changed_sections(digests: dict[str, str], spec: HPOStudySpec) -> list[str]:
    """Fixed sections that are not what they were; a digest of another release's format says nothing of them."""
    return [
        name
        for name, digest in fixed_part(spec).items()
        if digests.get(name, "").startswith(_DIGESTS) and digests[name] != digest
    ]
