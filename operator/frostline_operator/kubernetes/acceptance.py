"""Whether a study can be run as it is written: what CEL could not say is said here, in words for its author."""

from __future__ import annotations

import json

from frostline_operator.api.loader import PRICES, validate_study
from frostline_operator.api.problems import StudyError
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.crds.rules import changed_sections, fixed_part
from frostline_operator.kubernetes.client.api import Manifest
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import pod_template
from frostline_operator.kubernetes.settings import OperatorSettings, StudyDefaults

_READ = ("apiVersion", "kind", "metadata", "spec")


def accepted(body: Manifest, journal: Journal, settings: OperatorSettings) -> HPOStudySpec | str:
    """The spec with the operator's defaults, or what is wrong with it.

    The last spec that is accepted before the study begins is kept in the journal, to tell changes from then on, and so
    are the defaults that it got. Before it begins anything may be corrected.

    Raises:
        StaleError: somebody else writes the journal.
        ApiError: the journal could not be written.
    """
    manifest = json.loads(json.dumps({key: body[key] for key in _READ if key in body}))
    try:
        spec = validate_study(manifest, body["metadata"]["name"]).spec
    except StudyError as error:
        return "\n".join(f"{p.path}: {p.message}" if p.path else p.message for p in error.problems)
    first = journal.fact("spec") if journal.begun else None
    changed = changed_sections(first, spec) if first is not None else []
    if changed:
        return (
            f"{', '.join(changed)} changed although the study has begun; results of different studies cannot be "
            "mixed. Undo the change, or make a new study"
        )
    defaults = (kept_defaults(journal) if journal.begun else None) or settings.defaults
    complete = defaults.complete(spec)
    lacking = without_checkpoints(spec, settings) or without_prometheus(spec, settings) or without_prices(complete)
    if lacking is not None:
        return lacking
    if first is None:
        journal.set_fact("defaults", defaults.model_dump(mode="json", by_alias=True))
    if first != fixed_part(spec):  # new, or in the format of an earlier release
        journal.set_fact("spec", fixed_part(spec))
    journal.set_fact("accepted", complete.model_dump(mode="json", by_alias=True, exclude_unset=True))
    return complete


def last_accepted(journal: Journal) -> HPOStudySpec | None:
    """The spec that was accepted last, with its defaults; None where none was, or this release cannot read it."""
    kept = journal.fact("accepted")
    try:
        return None if kept is None else HPOStudySpec.model_validate(kept)
    except ValueError:
        return None


def kept_defaults(journal: Journal) -> StudyDefaults | None:
    """The operator's defaults that the study began with, whatever its settings say by now."""
    kept = journal.fact("defaults")
    return None if kept is None else StudyDefaults.model_validate(kept)


def without_checkpoints(spec: HPOStudySpec, settings: OperatorSettings) -> str | None:
    """Promoted trials go on from a checkpoint, perhaps on another node: it must be where all nodes see it."""
    root = settings.checkpoints
    if "://" in root:
        return None
    pod = pod_template(settings, spec.template)["spec"]
    container: Manifest = next((c for c in pod["containers"] if c.get("name") == names.CONTAINER), {})
    paths = [str(mount.get("mountPath", "")).rstrip("/") for mount in container.get("volumeMounts") or []]
    if any(path not in ("", "/tmp") and (root.rstrip("/") + "/").startswith(path + "/") for path in paths):
        return None
    return (
        f"there is no place for checkpoints: nothing is mounted at {root}; give the operator checkpointClaim or a "
        f"URL, or mount a shared volume there with spec.template (a volume named {names.CHECKPOINTS})"
    )


def without_prometheus(spec: HPOStudySpec, settings: OperatorSettings) -> str | None:
    """Only the operator's installer says which Prometheus there is."""
    metrics = spec.metrics
    if settings.prometheus.url is not None:
        return None
    if metrics.source == "Prometheus":
        asked = "spec.metrics.source: Prometheus is asked for"
    elif metrics.query is not None or metrics.when_missing == "Wait":
        asked = f"spec.metrics.{'query' if metrics.query is not None else 'whenMissing'} is for a Prometheus"
    else:
        return None
    return f"{asked}, but this operator knows of none; set prometheus.url in its settings, or source: Scrape"


def without_prices(spec: HPOStudySpec) -> str | None:
    """A cost is a limit only where something can be reckoned by."""
    if not spec.budget.unpriced:
        return None
    return f"spec.budget.cost needs prices, and this operator's settings have none; add spec.budget.{PRICES}"
