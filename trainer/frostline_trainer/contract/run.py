"""What one run is asked to do: the input of a trainer process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from frostline_trainer.contract.base import FieldPath, Scalar, Section
from frostline_trainer.contract.data import DataSpec
from frostline_trainer.contract.model import ModelSpec
from frostline_trainer.contract.training import TrainingSpec

RUN_ENV = "FROSTLINE_RUN"
"""Environment variable that holds the `RunSpec` as one JSON document (or `@/path/to/file`)."""
LAYERS_ENV = "FROSTLINE_LAYERS"
"""Overrides `RunSpec.layers`, so that an admission step can bind z after the pod was made (downward API)."""
MAX_TRIALS_PER_RUN = 16
"""So many trial results fit `RESULT_LIMIT_BYTES` with the longest names that a study can have."""


class CheckpointRef(Section):
    """Where an earlier rung of a trial left off."""

    path: str
    """Relative to `RunSpec.checkpoint`."""
    layers: Annotated[int, Field(ge=1)]
    """z of the checkpoint: it holds the last z layers only."""
    tokens: Annotated[int, Field(ge=0)]
    """Tokens (or samples) seen so far."""


class TrialSpec(Section):
    """One trial's part of a run."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    """As sampled, for custom entrypoints and logs; never a metric label."""
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    """With this trial's hyperparameters already bound."""
    parent: CheckpointRef | None = None
    """Continue from here (promoted with the same layers or with Continue, stopped or killed); else start afresh."""


class RunSpec(Section):
    """One run: what one trainer pod or process does. All trials of a run share model, data, seed and layers."""

    study: Annotated[str, Field(min_length=1, max_length=63)]
    study_uid: Annotated[str, Field(min_length=1, max_length=64)]
    """Tells this study's series from those of one that was deleted and made again under the same name."""
    run: Annotated[str, Field(min_length=1, max_length=63)]
    rung: Annotated[int, Field(ge=0)]
    layers: Annotated[int, Field(ge=1)]
    """z: how many units, counted from the output, are trained."""
    tokens: Annotated[int, Field(ge=1)]
    """Tokens (or samples) that each trial has seen at the end of this rung, those of its parents included."""
    horizon: Annotated[int, Field(ge=1)]
    """Tokens over which the learning-rate schedule extends."""
    trials: Annotated[list[TrialSpec], Field(min_length=1, max_length=MAX_TRIALS_PER_RUN)]
    model: ModelSpec
    data: DataSpec
    metric: Annotated[str, Field(min_length=1, max_length=63)] = "loss"
    """What is reported as the objective: one of `training.objective`'s metrics, or an entrypoint's own name."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seeds initial weights, data order and dropout: the same for all trials of a study, which so share prefixes."""
    evaluations: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Validation passes spread evenly over the run's tokens, the last one at its end; by default up to four, fewer
    where they would look at more tokens than the run trains on."""
    checkpoint: str
    """Folder or fsspec URL under which checkpoints are written; see `checkpoint_folder`."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] | None = None
    """Between two checkpoints on the way, for a run that is killed; without it there is one at the end only."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """0 lets the system choose; the port is then in the log's first line and in `metricsFile`."""
    metrics_file: str | None = None
    """The trainer writes `host:port` of its /metrics here once it listens."""
    linger_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long /metrics stays up after the last value, so that a scraper sees it; POST /release ends it early."""
    device: Literal["cuda", "cpu"] | None = None
    """Kind of device that the run was promised; without it the trainer takes an accelerator where it finds one."""
    memory_limit: Annotated[int, Field(ge=1)] | None = None
    """Bytes that this run may hold on its device. On a CPU the trainer enforces it by its own count of live tensors."""
    cache_bytes: Annotated[int, Field(ge=0)] = 0
    """Bound of the prefix cache in host memory; 0 turns it off."""
    cache_disk_bytes: Annotated[int, Field(ge=0)] = 0
    """Bound of the prefix cache on local disk, for what does not fit `cacheBytes`; 0 leaves the disk alone."""
    cache_folder: str | None = None
    """Folder on local disk for it; by default the system's temporary folder."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Trials of one name."""
        names = [trial.name for trial in self.trials]
        if len(set(names)) != len(names):
            yield ("trials",), "trial names within a run must differ"


CHECKPOINT_FOLDER = r"[a-z0-9][-a-z0-9.]*/rung-[0-9]+-[A-Za-z0-9]+"
"""What `checkpoint_folder` makes, as a regular expression."""


def checkpoint_folder(trial: str, rung: int, run: str) -> str:
    """Where a run keeps a trial's checkpoint, relative to the study's folder.

    Each attempt has a folder of its own, by the number at the end of its run's name: one that was given up, on a node
    that does not answer, may still be writing while the next one trains.
    """
    return f"{trial}/rung-{rung}-{run.rpartition('-')[2]}"
