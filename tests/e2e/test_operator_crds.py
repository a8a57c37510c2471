"""The API server's own checks, and that they say what the models say."""

import copy
import json
from typing import Any

import pytest
from frostcluster.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.documentation import MANIFESTS, ROOT
from tests.e2e.operating import Studies, small

from frostline_operator.api.loader import validate_study
from frostline_operator.api.problems import StudyError

Manifest = dict[str, Any]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.yaml"))

# What only the operator can say: it looks into scalars of any type, free-form mappings, or across lists.
ONLY_OPERATOR = (
    "it would have no effect", "takes no fractions", "is bound to", "needs values", "needs value", "never is",
    "training.optimizer", "with this value", "spec.model.config", "is less than one training step", "is for AdamW",
    "there is one rung only", "would get no further", "configuration", "at least 1 item", "is for type",
)  # fmt: skip


def manifest(spec: Manifest, name: str = "x") -> Manifest:
    return {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def server_says(client: Client, made: Manifest) -> str | None:
    """What the API server has against it, None where it takes it."""
    done = client.try_kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(made))
    return None if done.returncode == 0 else done.stderr


def model_says(made: Manifest) -> list[str]:
    """Everything that the models have against it."""
    try:
        validate_study(copy.deepcopy(made))
    except StudyError as error:
        return [f"{p.path}: {p.message}" for p in error.problems]
    return []


# One change each to a valid study, and the words that the person reads who makes it.
INVALID: list[tuple[str, Manifest, str]] = [
    ("eta too small", {"search": {"eta": 1}}, "should be greater than or equal to 2"),
    ("unknown algorithm", {"search": {"algorithm": "Bayes"}}, "supported values"),
    ("no trials", {"search": {"trials": 0}}, "should be greater than or equal to 1"),
    ("fractional trials", {"search": {"trials": 1.5}}, "must be of type integer"),
    ("unknown key", {"search": {"trails": 4}}, "unknown field \"spec.search.trails\""),
    ("nothing ends it", {"search": {"trials": None}}, "nothing ends this study; give search.trials"),
    ("wrong direction", {"objective": {"direction": "Maximize"}}, "set direction: Minimize"),
    ("wrong direction of accuracy", {"objective": {"metric": "accuracy"}}, "set direction: Maximize"),
    ("unknown metric", {"objective": {"metric": "f1"}}, "built-in families report loss"),
    ("tokens for a table", {"fidelity": {"samples": None, "tokens": {"max": 100}}}, "rename tokens to samples"),
    ("both units", {"fidelity": {"tokens": {"max": 100}}}, "two units of one thing"),
    ("no schedule", {"fidelity": {"samples": None}}, "needs tokens (language models) or samples"),
    ("descending amounts", {"fidelity": {"samples": {"min": 900, "max": 500}}}, "min must be at most max"),
    ("descending layers", {"fidelity": {"layers": {"min": 3, "max": 2}}}, "min must be at most max"),
    ("all and a max", {"fidelity": {"layers": {"min": "All", "max": 2}}}, "remove max"),
    ("no such word", {"fidelity": {"layers": {"min": "some"}}}, "must be a whole number of at least 1, or All"),
    (
        "rungs and ranges",
        {"fidelity": {"rungs": [{"layers": 1, "tokens": 100}]}},
        "rungs is the whole schedule",
    ),
    (
        "descending rungs",
        {"fidelity": {"samples": None, "rungs": [{"layers": 1, "tokens": 900}, {"layers": 2, "tokens": 100}]}},
        "at least the tokens of the one before",
    ),
    (
        "descending depth",
        {"fidelity": {"samples": None, "rungs": [{"layers": "All", "tokens": 100}, {"layers": 2, "tokens": 900}]}},
        "at least the layers of the one before",
    ),
    (
        "same rungs",
        {"fidelity": {"samples": None, "rungs": [{"layers": 2, "tokens": 100}, {"layers": 2, "tokens": 100}]}},
        "two rungs are the same",
    ),
    ("no layers for an MLP", {"model": {"hidden": []}}, "family MLP needs hidden"),
    ("name for an MLP", {"model": {"name": "resnet18"}}, "name is for family Vision"),
    ("entrypoint for an MLP", {"model": {"entrypoint": "a:b"}}, "entrypoint is for family Custom"),
    ("no source", {"data": {"builtin": None}}, "gives no source"),
    ("two sources", {"data": {"path": "/data"}}, "two sources"),
    ("wrong kind", {"data": {"kind": "Images", "builtin": "digits"}}, "MLP on Table"),
    ("wrong builtin", {"data": {"builtin": "digits"}}, "this data is of another kind"),
    ("image size of a table", {"data": {"imageSize": 32}}, "imageSize is for kind Images"),
    ("no time", {"budget": {"wallClock": "0s"}}, "give at least 1s"),
    ("odd time", {"budget": {"wallClock": "soon"}}, "should match"),
    ("odd memory", {"placement": {"usableMemory": "much"}}, "should match"),
    ("no time between scrapes", {"metrics": {"interval": "0s"}}, "give at least 1s"),
    ("patience without Prometheus", {"metrics": {"source": "Scrape", "patience": "5s"}}, "is for source Prometheus"),
    ("query without Prometheus", {"metrics": {"source": "Scrape", "query": {"objective": "x"}}}, "remove it, or set"),
    ("waiting without Prometheus", {"metrics": {"source": "Scrape", "whenMissing": "Wait"}}, "for source Prometheus"),
    ("patience without end", {"metrics": {"whenMissing": "Wait", "patience": "5s"}}, "remove patience"),
    ("odd source", {"metrics": {"source": "Graphite"}}, "supported values"),
    ("blank query", {"metrics": {"query": {"objective": " "}}}, "should match"),
    ("no objective", {"metrics": {"query": {"tokens": "x"}}}, "required"),
    ("odd label", {"metrics": {"query": {"objective": "x", "labels": {"trial": "my-trial"}}}}, "should match"),
    ("one label for two", {"metrics": {"query": {"objective": "x", "labels": {"rung": "trial"}}}}, "two labels"),
    ("one label for run", {"metrics": {"query": {"objective": "x", "labels": {"run": "trial"}}}}, "besides trial"),
    ("learning rate of zero", {"training": {"optimizer": {"lr": 0}}}, "should be greater than 0"),
]  # fmt: skip


def changed(change: Manifest) -> Manifest:
    spec = small()
    for section, fields in change.items():
        merged = {**spec.get(section, {}), **fields}
        spec[section] = {key: value for key, value in merged.items() if value is not None}
    return spec


@pytest.mark.parametrize(("change", "words"), [pytest.param(c, w, id=name) for name, c, w in INVALID])
def test_what_is_wrong_is_refused_with_words_that_help(crds: Client, change: Manifest, words: str) -> None:
    made = manifest(changed(change))
    said = server_says(crds, made)
    assert said is not None, "the API server took it"
    assert words.lower() in said.lower()
    assert model_says(made), "the models take it"


PARAMETERS: list[tuple[str, Manifest, str]] = [
    ("no max", {"type": "Float", "min": 0.1}, "need min and max"),
    ("descending", {"type": "Float", "min": 2, "max": 1}, "max must be above min"),
    ("log of zero", {"type": "Float", "min": 0, "max": 1, "scale": "Log"}, "above 0 for scale Log"),
    ("log in steps", {"type": "Float", "min": 0.1, "max": 1, "scale": "Log", "step": 0.1}, "Linear only"),
    ("large step", {"type": "Float", "min": 0, "max": 1, "step": 3}, "at most max - min"),
    ("fraction", {"type": "Int", "min": 0.5, "max": 4}, "whole number for type Int"),
    ("range of choices", {"type": "Categorical", "values": [1, 2], "min": 1}, "for types Float and Int"),
    ("odd type", {"type": "Real", "min": 0, "max": 1}, "supported values"),
    ("odd name", {"name": "9 lives", "type": "Float", "min": 0, "max": 1}, "should match"),
]


@pytest.mark.parametrize(("fields", "words"), [pytest.param(f, w, id=name) for name, f, w in PARAMETERS])
def test_parameters_that_are_wrong(crds: Client, fields: Manifest, words: str) -> None:
    spec = small()
    spec["parameters"] = [{"name": "lr", "bind": "training.optimizer.lr", **fields}]
    said = server_says(crds, manifest(spec))
    assert said is not None and words.lower() in said.lower()
    assert model_says(manifest(spec))


def test_two_parameters_of_one_name(crds: Client) -> None:
    spec = small()
    spec["parameters"] *= 2
    said = server_says(crds, manifest(spec))
    assert said is not None and "Duplicate value" in said


@pytest.mark.parametrize("where", [*MANIFESTS, *EXAMPLES])
def test_the_api_server_takes_what_examples_and_docs_show(crds: Client, where: str) -> None:
    shown = MANIFESTS[where] if where in MANIFESTS else (ROOT / "examples" / where).read_text()
    done = crds.try_kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=shown)
    assert done.returncode == 0, done.stderr


def test_names_that_no_run_could_have(crds: Client) -> None:
    for name in ("a.b", "x" * 41):
        said = server_says(crds, manifest(small(), name))
        assert said is not None and "at most 40" in said
        assert model_says(manifest(small(), name))


def test_explain_reads_well(crds: Client) -> None:
    text = crds.kubectl("explain", "hpostudy.spec.fidelity")
    assert "What grows from rung to rung" in text and "samples" in text
    assert "enum: SuccessiveHalving, Hyperband, ASHA" in crds.kubectl("explain", "hpostudy.spec.search")


scalar = st.one_of(
    st.booleans(), st.integers(-3, 40), st.floats(-2, 50, allow_nan=False), st.sampled_from(["All", "x"])
)
ranges = st.fixed_dictionaries({}, optional={"min": scalar, "max": scalar})
rungs = st.lists(st.fixed_dictionaries({"layers": scalar, "tokens": st.integers(90, 99)}), max_size=3)
specs = st.fixed_dictionaries(
    {
        "parameters": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["lr", "weightDecay"]), "type": st.sampled_from(["Float", "Int", "Constant"])},
                optional={
                    "min": st.one_of(st.floats(1e-4, 2), st.integers(-1, 3)),
                    "max": st.one_of(st.floats(1e-3, 3), st.integers(0, 5)),
                    "scale": st.sampled_from(["Linear", "Log"]),
                    "step": st.floats(0, 2),
                    "value": st.floats(1e-3, 1),
                },
            ),
            min_size=0, max_size=2,
        ),
        "search": st.fixed_dictionaries(
            {}, optional={"trials": st.integers(0, 9), "eta": st.integers(1, 17),
                          "sampler": st.sampled_from(["Random", "Grid", "Model"]),
                          "algorithm": st.sampled_from(["ASHA", "Hyperband"])}
        ),
        "fidelity": st.one_of(
            st.just({"samples": {"max": 2000, "min": 500}}),
            st.fixed_dictionaries({}, optional={"layers": ranges, "samples": ranges, "tokens": ranges}),
            st.fixed_dictionaries({"rungs": rungs}),
        ),
        "model": st.one_of(
            st.just({"family": "MLP", "hidden": [4, 4]}),
            st.fixed_dictionaries(
                {"family": st.sampled_from(["MLP", "Vision", "CausalLM", "Custom"])},
                optional={"name": st.just("resnet18"), "hidden": st.just([4]), "entrypoint": st.just("a:b"),
                          "activation": st.sampled_from(["relu", "gelu"]), "config": st.just({"model_type": "gpt2"})},
            ),
        ),
        "data": st.one_of(
            st.just({"kind": "Table", "builtin": "breast-cancer"}),
            st.fixed_dictionaries(
                {"kind": st.sampled_from(["Text", "Images", "Table", "None"])},
                optional={"builtin": st.sampled_from(["python-docs", "digits", "breast-cancer"]),
                          "path": st.just("/d"), "imageSize": st.integers(7, 33), "augment": st.booleans()},
            ),
        ),
    },
    optional={
        "budget": st.fixed_dictionaries(
            {}, optional={"cost": st.integers(0, 3), "wallClock": st.sampled_from(["", "0s", "5m", "1h30m", "5"]),
                          "tokens": st.integers(0, 5)}
        ),
        "suspend": st.booleans(),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs)
def test_models_and_api_server_agree(crds: Client, spec: Manifest) -> None:
    made = manifest(json.loads(json.dumps({**spec, "training": {"batchSize": 25}})))
    said, problems = server_says(crds, made), model_says(made)
    if said is not None:
        assert problems, f"only the API server refuses: {said}"
    else:
        # What it takes and the models do not, CEL cannot say: the operator answers with Accepted=False.
        unsaid = [p for p in problems if not any(words in p for words in ONLY_OPERATOR)]
        assert unsaid == []


def test_what_cel_cannot_say_is_said_by_the_operator(studies: Studies) -> None:
    spec = small()
    spec["parameters"].append({"name": "weightDekay", "type": "Float", "min": 0.1, "max": 1})
    studies.apply("misspelt", spec)
    accepted = studies.wait_condition("misspelt", "Accepted", "False", 30)
    assert "did you mean bind: training.optimizer.weightDecay" in accepted["message"]
    assert studies.status("misspelt")["observedGeneration"] == 1
    assert studies.jobs("misspelt") == []
    assert any("weightDecay" in event["message"] for event in studies.events("misspelt"))


def test_a_cost_without_prices_waits_for_some(studies: Studies) -> None:
    studies.apply("unpriced", small(budget={"cost": 5}))
    accepted = studies.wait_condition("unpriced", "Accepted", "False", 30)
    assert "spec.budget.cost needs prices" in accepted["message"]
    assert studies.jobs("unpriced") == []
    prices = [{"memoryClass": "4Gi", "perHour": 0.5}]
    studies.workloads.kubectl(
        "patch", "study", "unpriced", "--type=merge", "-p", json.dumps({"spec": {"budget": {"prices": prices}}})
    )
    studies.wait_condition("unpriced", "Accepted", "True", 30)
