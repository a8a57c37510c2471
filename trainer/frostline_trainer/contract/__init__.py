"""The contract between operator and trainer: what goes in, what shows live, what comes out.

It is all that both sides import, so it depends on pydantic only. Field names are snake_case in Python and camelCase in
JSON and YAML, because the model, data and training sections are the same objects that a person writes in an `HPOStudy`
manifest. Import from here; the modules below are one for each part.
"""

from frostline_trainer.contract.base import FieldPath, Scalar, Section, SectionError
from frostline_trainer.contract.costs import PACKING_PAYS, UPDATE_FLOPS, ModelProfile, ProfileSpec, Variant
from frostline_trainer.contract.data import DataSpec
from frostline_trainer.contract.memory import PROFILE_LIMIT_BYTES, MemoryProfile
from frostline_trainer.contract.metrics import METRIC_LABELS, MetricName
from frostline_trainer.contract.model import Family, ModelSpec
from frostline_trainer.contract.result import (
    RESULT_ENV,
    RESULT_LIMIT_BYTES,
    TERMINATION_LOG,
    ExitCode,
    Reason,
    Record,
    RunResult,
    TrialResult,
)
from frostline_trainer.contract.run import (
    CHECKPOINT_FOLDER,
    LAYERS_ENV,
    MAX_TRIALS_PER_RUN,
    RUN_ENV,
    CheckpointRef,
    RunSpec,
    TrialSpec,
    checkpoint_folder,
)
from frostline_trainer.contract.training import OptimizerSpec, Precision, ScheduleSpec, TrainingSpec

__all__ = [
    "CHECKPOINT_FOLDER",
    "LAYERS_ENV",
    "MAX_TRIALS_PER_RUN",
    "METRIC_LABELS",
    "PACKING_PAYS",
    "PROFILE_LIMIT_BYTES",
    "RESULT_ENV",
    "RESULT_LIMIT_BYTES",
    "RUN_ENV",
    "TERMINATION_LOG",
    "UPDATE_FLOPS",
    "CheckpointRef",
    "DataSpec",
    "ExitCode",
    "Family",
    "FieldPath",
    "MemoryProfile",
    "MetricName",
    "ModelProfile",
    "ModelSpec",
    "OptimizerSpec",
    "Precision",
    "ProfileSpec",
    "Reason",
    "Record",
    "RunResult",
    "RunSpec",
    "Scalar",
    "ScheduleSpec",
    "Section",
    "SectionError",
    "TrainingSpec",
    "TrialResult",
    "TrialSpec",
    "Variant",
    "checkpoint_folder",
]
