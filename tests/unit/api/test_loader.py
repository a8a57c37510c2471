"""Reading manifests: files, several documents, and everything that is wrong at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.api.loader import load_study, parse_study, rooted, validate_study
from frostline_operator.api.problems import StudyError
from frostline_operator.api.study import HPOStudy
from frostline_operator.api.yaml import read_documents, study_to_yaml, to_yaml

from .manifests import CUSTOM, GOOD, VISION, changed


def said(text: str, file: str = "study.yaml") -> list[str]:
    with pytest.raises(StudyError) as caught:
        parse_study(text, file)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("text", [GOOD, VISION, CUSTOM])
def test_right_manifests_are_read(text: str) -> None:
    assert parse_study(text).metadata.name == "demo"


def test_yaml_1_2_numbers() -> None:
    lr = parse_study(GOOD).spec.parameters[0]
    assert (lr.min, lr.max) == (1e-4, 1e-1)


def test_problems_of_all_sections_come_at_once() -> None:
    assert said("""\
apiVersion: hpo.frostline.dev/v1alpha1
kind: HPOStudy
metadata: {name: Demo}
spec:
  objective: {metric: loss, direction: Maximize}
  parameters:
    - {name: lr, type: Float, min: 1e-4, max: 1e4, scale: Log}
    - {name: wd, type: Float, min: 0, max: 1e-1, scale: Log}
    - {name: depth, type: Int, min: 2, max: 8, bind: model.config.n_layer}
    - {name: momentum, type: Float, min: "0", max: 0.9}
  serach: {trials: 16.0, initial: [{lr: 1e5}]}
  fidelity:
    tokens: {max: 1e6}
    layers: {mn: 1}
  model: {family: CausalLM, hidden: [5]}
  data: {kind: Text, builtin: digits, path: yes}
  training: {optimizer: {lr: 2, lr: 3}}
  budget: {wallClock: 5 min, cost: 5}
""") == [
        "study.yaml:3: metadata.name: must be lower-case letters, digits and '-' only, such as my-study, got 'Demo'",
        "study.yaml:5: spec.objective.direction: loss is better when lower; set direction: Minimize",
        "study.yaml:7: spec.parameters[lr].max: training.optimizer.lr must be at most 1000, got 10000",
        "study.yaml:8: spec.parameters[wd].min: must be above 0 for scale Log, got 0; raise it or set scale: Linear",
        "study.yaml:10: spec.parameters[momentum].min: must be a number, got '0'; remove the quotes",
        "study.yaml:11: spec.search.trials: must be a whole number, got 16.0; write 16",
        "study.yaml:11: spec.serach: there is no such key; did you mean search?",
        "study.yaml:13: spec.fidelity.tokens.max: must be a whole number, got 1000000.0; write 1000000",
        "study.yaml:14: spec.fidelity.layers.mn: there is no such key; did you mean min?",
        "study.yaml:15: spec.model.config: a CausalLM needs config.model_type "
        "(such as gpt2, with n_layer, n_embd, n_head) or pretrained",
        "study.yaml:15: spec.model.hidden: hidden is for family MLP, not for CausalLM; remove it or set family: MLP",
        "study.yaml:16: spec.data.builtin: digits is of kind Images; set kind: Images, or builtin: python-docs",
        "study.yaml:16: spec.data.path: yes is text here but true to kubectl; write true, or 'yes'",
        "study.yaml:17: spec.training.optimizer.lr: is there twice, first in line 17; keep one",
        "study.yaml:18: spec.budget.wallClock: must be a length of time, such as 90s, 15m or 1h30m, got '5 min'",
    ]


def test_a_misspelt_section_is_checked_under_its_right_name() -> None:
    lines = said(changed("  search: {trials: 16}", "  serach: {trials: 0}"))
    assert lines == [
        "study.yaml:14: spec.search.trials: must be at least 1, got 0",
        "study.yaml:14: spec.serach: there is no such key; did you mean search?",
    ]


def test_checks_between_sections_run_beside_a_broken_section() -> None:
    text = changed("  search: {trials: 16}", "  search: {trials: 0}")
    lines = said(changed("{metric: loss}", "{metric: accuracy}", text))
    assert lines == [
        "study.yaml:6: spec.objective.direction: accuracy is better when higher; set direction: Maximize",
        "study.yaml:14: spec.search.trials: must be at least 1, got 0",
    ]


def test_a_key_of_both_kinds_wrong_in_an_empty_place() -> None:
    assert said("1: 2\n") == [
        "study.yaml:1: the key 1 is not text; put it in quotes",
        "study.yaml:1: apiVersion: is missing; add apiVersion: hpo.frostline.dev/v1alpha1",
        "study.yaml:1: kind: is missing; add kind: HPOStudy",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "study.yaml:1: is empty; write a study: apiVersion: hpo.frostline.dev/v1alpha1, kind: HPOStudy, ..."),
        (
            "# nothing\n",
            "study.yaml:1: is empty; write a study: apiVersion: hpo.frostline.dev/v1alpha1, kind: HPOStudy, ...",
        ),
        ("- a\n", "study.yaml:1: must be a section with apiVersion, kind, metadata and spec, got a list"),
        ("hello\n", "study.yaml:1: must be a section with apiVersion, kind, metadata and spec, got 'hello'"),
        ("kind: Job\n---\nkind: Pod\n", "study.yaml:1: holds no object with kind: HPOStudy; add one"),
        ("a: &x [*x]\n", "study.yaml:1: a[0]: an alias refers to what it is part of; write the value out"),
        ("a: \x01\n", "study.yaml:1: not valid YAML: a character that YAML does not allow; remove it"),
    ],
)
def test_files_that_hold_no_study(text: str, line: str) -> None:
    assert said(text)[0] == line


def test_two_studies_in_a_file_are_refused() -> None:
    assert said(GOOD + "---\n" + VISION) == [
        "study.yaml:25: holds 2 studies (lines 1 and 25); put each in a file of its own"
    ]


def test_other_objects_in_the_file_are_passed_over() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n" + GOOD
    assert parse_study(text).metadata.name == "demo"
    assert said(changed("trials: 16", "trials: 0", text)) == [
        "study.yaml:18: spec.search.trials: must be at least 1, got 0"
    ]


def test_merge_keys_and_aliases_are_understood() -> None:
    text = changed("    - name: lr\n", "    - &base\n      name: lr\n")
    text = changed("    - {name: opt,", "    - {<<: *base, name: weightDecay}\n    - {name: opt,", text)
    assert [p.name for p in parse_study(text).spec.parameters] == ["lr", "weightDecay", "opt"]


def test_aliases_that_expand_without_end_are_stopped() -> None:
    levels = "\n".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 10)}]" for i in range(8))
    documents, _ = read_documents("l0: &l0 [x, x]\n" + levels, "f.yaml")
    assert any("expand without end" in message for _, _, message in documents[0].problems)


def test_nesting_without_end_is_a_problem_and_no_traceback() -> None:
    assert "nested too deeply" in said("[" * 1200)[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "there is no such file; check the path"),
        (lambda p: p.mkdir(), "is a folder; give the manifest in it"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00a"), "is not text in UTF-8; save it as UTF-8"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "s.yaml"
    make(path)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_study(path).metadata.name == "demo"


def plain(text: str) -> dict[str, Any]:
    return read_documents(text, "f")[0][0].data  # type: ignore[no-any-return]


def test_an_object_from_a_cluster_has_paths_and_no_lines() -> None:
    manifest = plain(GOOD)
    manifest["status"] = {"phase": "Running"}
    manifest["metadata"] |= {"uid": "1-2", "resourceVersion": "7", "managedFields": []}
    assert validate_study(manifest).metadata.uid == "1-2"
    manifest["spec"]["search"]["trials"] = 0
    with pytest.raises(StudyError) as caught:
        validate_study(manifest)
    assert str(caught.value) == "HPOStudy: spec.search.trials: must be at least 1, got 0"
    assert manifest["status"], "the caller's object is left alone"


def test_defaults_written_out_by_a_cluster_change_nothing() -> None:
    for text in (GOOD, VISION, CUSTOM):
        study = parse_study(text)
        written_out = study.model_dump(mode="json", by_alias=True)
        assert validate_study(written_out) == study


# --- round trip -------------------------------------------------------------------------------------------------------

words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=12
)
words |= st.sampled_from(
    ["yes", "off", "null", "1e5", "0x1F", "012", "1:30", "true", "~", "- a", "a: b", "#", "2001-01-01"]
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | st.integers(-(2**60), 2**60) | numbers | words


@st.composite
def studies(draw: st.DrawFn) -> HPOStudy:
    low = draw(st.floats(1e-12, 1.0))
    high = draw(st.floats(low, 1e3, exclude_min=True))
    choices = draw(st.lists(scalars, min_size=1, max_size=6, unique_by=lambda v: (isinstance(v, bool), v)))
    parameters: list[dict[str, Any]] = [
        {"name": "lr", "type": "Float", "min": low, "max": high, "scale": draw(st.sampled_from(["Linear", "Log"]))},
        {"name": draw(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,20}\Z").filter(lambda n: n != "lr")),
         "type": "Categorical", "values": choices},
        {"name": "c-1", "type": "Constant", "value": draw(scalars), "bind": "model.config.deep.er"},
    ]  # fmt: skip
    parameters[1]["bind"] = "model.config.x"
    spec = {
        "objective": {"metric": draw(words.filter(lambda w: len(w) > 8)), "goal": draw(st.none() | numbers)},
        "parameters": parameters,
        "search": {"trials": draw(st.none() | st.integers(1, 3)), "seed": draw(st.integers(0, 2**31 - 1))},
        "fidelity": {"samples": {"max": draw(st.integers(1, 2**50))}},
        "model": {"family": "Custom", "entrypoint": "a.b:c", "config": draw(st.dictionaries(words, scalars))},
        "data": {"kind": "Table", "path": draw(words)},
        "budget": {"wallClock": draw(st.sampled_from(["1s", "2h30m", "3d"])), "trials": 3},
        "suspend": draw(st.booleans()),
    }
    return HPOStudy.model_validate({"metadata": {"name": "demo"}, "spec": spec})


@given(studies())
@settings(max_examples=60, deadline=None)
def test_what_is_written_reads_back_as_the_same_study(study: HPOStudy) -> None:
    assert parse_study(study_to_yaml(study)) == study


@given(st.recursive(scalars | st.none(), lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=20))
@settings(max_examples=60, deadline=None)
def test_any_plain_data_reads_back_the_same(data: Any) -> None:
    documents, problems = read_documents(to_yaml({"data": data}), "f")
    assert not problems
    assert not documents[0].problems
    assert documents[0].data == {"data": data}


# --- robustness -------------------------------------------------------------------------------------------------------

junk = st.recursive(
    scalars | st.none() | st.just(float("nan")) | st.just(float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["min", "name", "x", "values"]), inner),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path] * bool(path) + [place for key, value in inner for place in places(value, (*path, key))]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_but_a_study_error_comes_of_anything(data: st.DataObject) -> None:
    manifest = copy.deepcopy(plain(data.draw(st.sampled_from([GOOD, VISION, CUSTOM]))))
    for _ in range(data.draw(st.integers(1, 4))):
        *parents, last = data.draw(st.sampled_from(places(manifest)))
        target = manifest
        for step in parents:
            target = target[step]
        what = data.draw(st.sampled_from(["replace", "remove", "rename"]))
        if what == "replace" or isinstance(target, list):
            target[last] = data.draw(junk)
        else:
            value = target.pop(last)
            if what == "rename":
                target[data.draw(words)] = value
    try:
        validate_study(manifest)
    except StudyError as error:
        assert error.problems
        assert all(p.message and "pydantic" not in p.message for p in error.problems)


def test_a_cost_without_prices_needs_an_operator_that_has_some() -> None:
    text = GOOD.replace("{trials: 16}", "{trials: 16}\n  budget: {cost: 5}")
    assert parse_study(text).spec.budget.unpriced
    with pytest.raises(StudyError) as caught:
        parse_study(text, alone=True)
    [problem] = caught.value.problems
    assert problem.path == "spec.budget.cost" and problem.line == 15
    assert "prices: [{memoryClass: 24Gi, perHour: 0.8}]" in problem.message
    priced = text.replace("{cost: 5}", "{cost: 5, prices: [{memoryClass: 8Gi, perHour: 1}]}")
    assert parse_study(priced, alone=True).spec.budget.cost == 5


def test_relative_paths_are_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, beside = tmp_path / "elsewhere", tmp_path / "studies"
    elsewhere.mkdir(), beside.mkdir()
    monkeypatch.chdir(elsewhere)
    (beside / "corpus.txt").write_text("text")
    manifest = beside / "study.yaml"
    manifest.write_text(GOOD.replace("builtin: python-docs", "path: corpus.txt"))
    study = load_study(manifest)
    assert study.spec.data.path == "corpus.txt", "what a person wrote stays in what is kept and shown"
    assert rooted(study, manifest).spec.data.path == str(beside / "corpus.txt")


@pytest.mark.parametrize("path", ["/data/corpus.txt", "hf://owner/data"])
def test_paths_that_are_not_relative_stay_as_they_are(path: str, tmp_path: Path) -> None:
    manifest = tmp_path / "study.yaml"
    manifest.write_text(GOOD.replace("builtin: python-docs", f"path: {path}, tokenizer: bytes"))
    study = load_study(manifest)
    assert rooted(study, manifest) is study


def test_a_relative_path_that_leads_nowhere_has_its_line(tmp_path: Path) -> None:
    manifest = tmp_path / "study.yaml"
    manifest.write_text(GOOD.replace("builtin: python-docs", "path: typo.txt"))
    with pytest.raises(StudyError) as refused:
        rooted(load_study(manifest), manifest)
    [problem] = refused.value.problems
    assert (problem.path, problem.line) == ("spec.data.path", 20) and "typo.txt beside the manifest" in problem.message


def test_objects_from_a_cluster_may_not_be_nested_without_end() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"a": nested}
    with pytest.raises(StudyError, match="64 levels"):
        validate_study(nested)
