"""Reads an `HPOStudy` and says everything that is wrong with it, in one go."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from frostline_operator.api.checks import Sections, cross_problems
from frostline_operator.api.parameters import Parameter
from frostline_operator.api.problems import (
    Problem,
    StudyError,
    describe,
    known_keys,
    listed,
    model_at,
    nearest,
    plain_path,
    shown,
)
from frostline_operator.api.study import API_VERSION, HPOStudy, HPOStudySpec
from frostline_operator.api.yaml import MOST_LEVELS, Document, read_documents, too_deep
from frostline_trainer.contract import FieldPath, SectionError

KIND = "HPOStudy"
_META_KEYS = [
    "name", "namespace", "labels", "annotations", "generateName", "finalizers", "ownerReferences", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink",
]  # fmt: skip
_EXAMPLES = {
    ("metadata",): "metadata: {name: my-study}",
    ("metadata", "name"): "name: my-study",
    ("spec", "parameters"): "parameters: [{name: lr, type: Float, min: 1e-4, max: 1e-1, scale: Log}]",
    ("spec", "fidelity"): "fidelity: {tokens: {max: 1000000}} (samples for images and tables)",
    ("spec", "model"): "model: {family: Vision, name: resnet18}",
}
_EXAMPLES_BY_KEY = {
    "data": "data: {kind: Text, path: /data/corpus.txt} (or Images, Table, None)",
    "family": "family: CausalLM (or Vision, MLP, Custom)",
    "kind": "kind: Text (or Images, Table, None)",
    "layers": "layers: 1 (or All)",
    "max": "max: 1000000",
    "memoryClass": "memoryClass: 24Gi",
    "name": "name: lr",
    "parameter": "parameter: with the parent's name",
    "perHour": "perHour: 0.8",
    "spec": "spec: with parameters, fidelity, model and data",
    "tokens": "tokens: 1000000",
    "type": "type: Float (or Int, Categorical, Constant)",
    "values": "values: [...], those of the parent",
}
"""What to write for a required key that is missing."""
PRICES = "prices: [{memoryClass: 24Gi, perHour: 0.8}], one for each memory class"
"""What to write where a cost has nothing to be reckoned by."""


def load_study(path: str | Path, alone: bool = False) -> HPOStudy:
    """The study in a file.

    Args:
        path: of the file.
        alone: no operator's settings will add what the study leaves out, such as prices.

    Raises:
        StudyError: with every problem found, if there is any; also if the file cannot be read.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise StudyError([Problem(file, None, "", "there is no such file; check the path")]) from error
    except IsADirectoryError as error:
        raise StudyError([Problem(file, None, "", "is a folder; give the manifest in it")]) from error
    except UnicodeDecodeError as error:
        raise StudyError([Problem(file, None, "", "is not text in UTF-8; save it as UTF-8")]) from error
    except OSError as error:
        raise StudyError([Problem(file, None, "", f"cannot be read: {error.strerror}")]) from error
    return parse_study(text, file, alone)


def parse_study(text: str, file: str = "study.yaml", alone: bool = False) -> HPOStudy:
    """The study in a YAML text; `file` is what problems call it. Other kinds of objects beside it are passed over.

    `alone` is as in `load_study`.

    Raises:
        StudyError: with every problem found, if there is any.
    """
    documents, problems = read_documents(text, file)
    mine = [d for d in documents if isinstance(d.data, dict) and d.data.get("kind") == KIND]
    if len(mine) > 1:
        lines = listed([str(d.line(())) for d in mine], "and")
        text = f"holds {len(mine)} studies (lines {lines}); put each in a file of its own"
        raise StudyError([*problems, Problem(file, mine[1].line(()), "", text)])
    if not mine and len(documents) > 1:
        raise StudyError([*problems, Problem(file, 1, "", f"holds no object with kind: {KIND}; add one")])
    chosen = mine or documents
    if not chosen:
        empty = Problem(file, 1, "", f"is empty; write a study: apiVersion: {API_VERSION}, kind: {KIND}, ...")
        raise StudyError(problems or [empty])
    return _checked(chosen[0], file, problems, alone)


def located(path: str | Path, problems: Iterable[tuple[FieldPath, str]]) -> StudyError:
    """Problems that were met after a manifest was read, with the lines of its file: path of the field and words."""
    file = str(path)
    documents: list[Document] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        documents, _ = read_documents(Path(path).read_text(encoding="utf-8-sig"), file)
    mine = [d for d in documents if isinstance(d.data, dict) and d.data.get("kind") == KIND] or [Document(None)]
    return StudyError([Problem(file, mine[0].line(where), mine[0].shown(where), text) for where, text in problems])


def rooted(study: HPOStudy, path: str | Path) -> HPOStudy:
    """The study with relative paths of data, tokenizer and weights made absolute, from its manifest's folder.

    Args:
        study: as it was read.
        path: of its manifest.

    Raises:
        StudyError: there is nothing at a relative path.
    """
    problems: list[tuple[FieldPath, str]] = []
    spec = study.spec
    for section, field in (("data", "path"), ("data", "tokenizer"), ("model", "pretrained")):
        value = getattr(getattr(spec, section), field)
        if value is None or value == "bytes" or "://" in value or Path(value).is_absolute():
            continue
        place = Path(path).resolve().parent / value
        if not place.exists():
            problems.append((("spec", section, field), f"there is no {value} beside the manifest; correct the path"))
        changed = getattr(spec, section).model_copy(update={field: str(place)})
        spec = spec.model_copy(update={section: changed})
    if problems:
        raise located(path, problems)
    return study if spec is study.spec else study.model_copy(update={"spec": spec})


def validate_study(manifest: Mapping[str, Any], file: str = "HPOStudy") -> HPOStudy:
    """The study in an object that is no text, such as one from a cluster.

    Raises:
        StudyError: with every problem found, if there is any.
    """
    if too_deep(manifest):
        raise StudyError([Problem(file, None, "", f"nested more than {MOST_LEVELS} levels deep; remove levels")])
    return _checked(Document(copy.deepcopy(dict(manifest))), file, [])


def _checked(document: Document, file: str, problems: list[Problem], alone: bool = False) -> HPOStudy:
    """Validates one document; `problems` are those of the file around it."""
    all_problems = list(problems)
    all_problems += [Problem(file, line, document.shown(path), message) for line, path, message in document.problems]
    known_places = {(p.line, p.path) for p in all_problems}
    study = None
    for path, message in _problems(document):
        place = (document.line(path), document.shown(path))
        if place not in known_places:
            all_problems.append(Problem(file, *place, message))
    if not all_problems:
        try:
            study = HPOStudy.model_validate(document.data)
        except ValidationError as error:  # the same rules in other words: a defect here, but never a traceback there
            all_problems = [Problem(file, document.line(()), "", str(error))]
        if alone and study is not None and study.spec.budget.unpriced:
            path = ("spec", "budget", "cost")
            all_problems = [Problem(file, document.line(path), document.shown(path), f"needs prices; add {PRICES}")]
            study = None
    if study is None:
        raise StudyError(all_problems)
    return study


def _problems(document: Document) -> Iterator[tuple[FieldPath, str]]:
    data = document.data
    if not isinstance(data, dict):
        text = f"must be a section with apiVersion, kind, metadata and spec, got {shown(data)}"
        yield (), text
        return
    data.pop("status", None)
    foreign = list(_identity(data))
    if foreign:
        yield from foreign
        if data.get("kind") != KIND:
            return
    yield from _unknown_keys(document)
    yield from _by_sections(data, {path for _, path, _ in document.problems})


def _identity(data: dict[str, Any]) -> Iterator[tuple[FieldPath, str]]:
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if key not in data:
            if nearest(key, [k for k in data if k not in known_keys(HPOStudy)], 0.8) is None:
                yield (key,), f"is missing; add {key}: {wanted}"
        elif data[key] != wanted:
            yield (key,), f"must be {wanted}, got {shown(data[key])}"


def _unknown_keys(document: Document) -> Iterator[tuple[FieldPath, str]]:
    """Reports keys that no section knows, and puts them right in the data or drops them, so that all is checked."""
    pending: list[FieldPath] = [()]
    while pending:
        path = pending.pop()
        data = _at(document.data, path)
        if isinstance(data, list):
            pending += [(*path, index) for index in range(len(data))]
        model = model_at(HPOStudy, path)
        if not isinstance(data, dict) or model is None:
            continue
        known = _META_KEYS if path == ("metadata",) else known_keys(model)
        for key in [k for k in data if k not in known]:
            meant = nearest(key, [k for k in known if k not in data])
            near = meant or nearest(key, known)
            remedy = f"did you mean {near}?" if near else f"remove it; known here: {listed(known, 'and')}"
            yield (*path, key), f"there is no such key; {remedy}"
            value = data.pop(key)
            if meant:
                data[meant] = value
                _move_lines(document, (*path, key), (*path, meant))
        pending += [(*path, key) for key in data]


def _at(data: Any, path: FieldPath) -> Any:
    for step in path:
        data = data[step]
    return data


def _move_lines(document: Document, old: FieldPath, new: FieldPath) -> None:
    for path, line in list(document.lines.items()):
        if path[: len(old)] == old:
            document.lines[(*new, *path[len(old) :])] = line


def _by_sections(data: dict[str, Any], unreadable: set[FieldPath]) -> Iterator[tuple[FieldPath, str]]:
    """Pydantic's errors, and the checks between those sections that have none; `unreadable` are wrong already."""
    grouped: dict[FieldPath, list[Any]] = {}
    try:
        HPOStudy.model_validate(data)
    except ValidationError as error:
        for detail in error.errors():
            grouped.setdefault(plain_path(detail, data), []).append(detail)
    spec, wrong = data.get("spec"), unreadable | grouped.keys()
    partly = isinstance(spec, dict) and bool(wrong - {("spec",)})
    for path, details in grouped.items():
        if path == ("spec",) and partly:
            continue  # the checks between sections, which are made below without those that are wrong
        inner = details[0].get("ctx", {}).get("error")
        if isinstance(inner, SectionError):
            for below, message in inner.problems:
                yield (*path, *below), message
        elif details[0]["type"] == "missing":
            example = _EXAMPLES.get(tuple(map(str, path))) or _EXAMPLES_BY_KEY.get(str(path[-1]))
            yield path, f"is missing; add {example or 'it'}"
        elif path not in (("apiVersion",), ("kind",)):  # these have been reported already
            yield path, describe(details)
    if partly:
        assert isinstance(spec, dict)
        for path, message in cross_problems(_sound(spec, {path[1:] for path in wrong if path[:1] == ("spec",)})):
            yield ("spec", *path), message


def _sound(spec: dict[str, Any], wrong: set[FieldPath]) -> Sections:
    """The sections without anything wrong in them, made one by one."""
    broken = {path[0] for path in wrong if path}
    made: dict[str, Any] = {}
    for name, field in HPOStudySpec.model_fields.items():
        key = field.alias or name
        if key in broken or name == "parameters":
            made[name] = None
        elif key not in spec:
            made[name] = None if field.is_required() else field.get_default(call_default_factory=True)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            made[name] = field.annotation.model_validate(spec[key])
        else:
            made[name] = spec[key]
    listed_parameters = spec.get("parameters")
    made["parameters"] = [None]
    if isinstance(listed_parameters, list):
        unusable = {path[1] for path in wrong if len(path) > 1 and path[0] == "parameters"}
        made["parameters"] = [None if i in unusable else _parameter(p) for i, p in enumerate(listed_parameters)]
    return Sections(**{name: made[name] for name in Sections.__dataclass_fields__})


def _parameter(data: object) -> Parameter | None:
    try:
        return Parameter.model_validate(data)
    except ValidationError:
        return None
