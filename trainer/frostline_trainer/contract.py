"""The contract between operator and trainer: what goes in, what shows live, what comes out.

It is the one module that both sides import, so it depends on pydantic only. Field names are snake_case in Python and
camelCase in JSON and YAML, because the model, data and training sections are the same objects that a person writes in
an `HPOStudy` manifest.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator
from pydantic.alias_generators import to_camel

RUN_ENV = "FROSTLINE_RUN"
"""Environment variable that holds the `RunSpec` as one JSON document (or `@/path/to/file`)."""
LAYERS_ENV = "FROSTLINE_LAYERS"
"""Overrides `RunSpec.layers`, so that an admission step can bind z after the pod was made (downward API)."""
RESULT_ENV = "FROSTLINE_RESULT"
"""Where the `RunResult` goes; by default the Kubernetes termination log."""
TERMINATION_LOG = "/dev/termination-log"
RESULT_LIMIT_BYTES = 4096
"""Kubernetes truncates a termination message at 4096 bytes; a truncated JSON document is no document."""
MAX_TRIALS_PER_RUN = 16
"""So many trial results fit `RESULT_LIMIT_BYTES` with the longest names that a study can have."""
PROFILE_LIMIT_BYTES = 4096
"""A memory profile lives in an object's status or annotation, so it is kept as small as a result."""

Scalar = bool | int | float | str
"""What a hyperparameter's value may be."""


class ExitCode(enum.IntEnum):
    """How a run ended, for the operator (podFailurePolicy acts on these)."""

    DONE = 0
    OUT_OF_MEMORY = 42
    """The device's memory did not suffice: retry with fewer layers or in a larger class, and tighten the profile."""
    STUDY_FAULT = 43
    """The study itself is at fault (bad model, bad data, bad entrypoint): never retried."""
    STOPPED = 143
    """Stopped by SIGTERM or SIGINT with a checkpoint: resumed, not charged as a failure."""


class MetricName:
    """Names of what the trainer exposes at `/metrics`; labels are `METRIC_LABELS` and never hyperparameter values."""

    OBJECTIVE = "frostline_trial_objective"
    LOSS = "frostline_trial_loss"
    TOKENS = "frostline_trial_tokens_total"
    STEP = "frostline_trial_step"
    STEP_SECONDS = "frostline_trial_step_seconds"
    MEMORY_PEAK = "frostline_trial_gpu_memory_peak_bytes"
    LAYERS = "frostline_trial_trainable_layers"
    FINISHED = "frostline_trial_finished"
    CHECKPOINT = "frostline_trial_checkpoint_tokens"


METRIC_LABELS = ("study", "study_uid", "trial", "rung", "run")
"""`study_uid` tells a study's series from those of an earlier one of its name, `run` one attempt at a rung from
another, whatever labels a Prometheus adds or drops."""


FieldPath = tuple[str | int, ...]
"""Where something is below a section: field names as written in YAML, and list indices."""


class SectionError(ValueError):
    """What is wrong between the fields of one section: everything at once, each with the field to change."""

    def __init__(self, problems: Iterable[tuple[FieldPath, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{'.'.join(map(str, path))}: {text}" for path, text in self.problems))


class Section(BaseModel):
    """Base of everything a person may write: strict types, unknown keys are errors, immutable once read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """What is wrong between fields that are right by themselves: where, and what to do about it.

        Overridden by sections that have such rules; checked whenever a section is made.
        """
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = tuple(self.problems())
        if found:
            raise SectionError(found)
        return self


# --- model ------------------------------------------------------------------------------------------------------------

Family = Literal["CausalLM", "Vision", "MLP", "Custom"]


class ModelSpec(Section):
    """The network to tune. Which fields apply depends on `family`."""

    family: Family
    """CausalLM: any Hugging Face causal language model. Vision: any torchvision classifier. MLP: a plain multilayer
    perceptron. Custom: your own code, named by `entrypoint`."""
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Vision: the torchvision builder, such as `resnet18` or `vit_l_16`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """CausalLM: fields of the Hugging Face config, `model_type` first (for instance `model_type: gpt2`, `n_layer: 8`).
    Vision: keyword arguments of the torchvision builder. Custom: handed to the entrypoint as it is."""
    pretrained: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Path to weights to start from: a Hugging Face model folder, or hf://owner/model@revision from the hub (CausalLM),
    or a safetensors file (Vision, MLP).
    Without it the network starts from random weights drawn from the study's seed."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(max_length=1024)] = Field(default_factory=list)
    """MLP: widths of the hidden layers, input to output."""
    activation: Literal["relu", "gelu", "tanh", "silu"] = "relu"
    """MLP: activation between layers."""
    entrypoint: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=512)] | None = None
    """Custom: `package.module:function`, called with a `frostline_trainer.Trial`."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Fields that the family needs and does not have, or has and does not know."""
        if self.family == "CausalLM" and not (self.pretrained or "model_type" in self.config):
            text = "a CausalLM needs config.model_type (such as gpt2, with n_layer, n_embd, n_head) or pretrained"
            yield ("config",), text
        if self.family == "Vision" and not self.name:
            yield ("name",), "a Vision model needs name, a torchvision builder such as resnet18"
        if self.family == "MLP" and not self.hidden:
            yield ("hidden",), "an MLP needs hidden, the widths of its hidden layers, such as [256, 256, 256]"
        if self.family == "Custom" and not self.entrypoint:
            yield ("entrypoint",), "a Custom model needs entrypoint, written package.module:function"
        for field, families in _MODEL_FIELDS.items():
            if self.family not in families and getattr(self, field) != ModelSpec.model_fields[field].get_default(
                call_default_factory=True
            ):
                yield (
                    (field,),
                    f"{field} is for family {' or '.join(families)}, not for {self.family}; "
                    f"remove it or set family: {families[0]}",
                )


_MODEL_FIELDS: dict[str, tuple[Family, ...]] = {
    "name": ("Vision",),
    "config": ("CausalLM", "Vision", "Custom"),
    "pretrained": ("CausalLM", "Vision", "MLP"),
    "hidden": ("MLP",),
    "activation": ("MLP",),
    "entrypoint": ("Custom",),
}
"""Which families know a field."""


# --- data -------------------------------------------------------------------------------------------------------------


class DataSpec(Section):
    """Where the training data comes from. Exactly one of `builtin` and `path` (Custom models may have neither)."""

    kind: Literal["Text", "Images", "Table", "None"]
    """Text for language models, Images for classifiers, Table for MLPs, None when an entrypoint brings its own."""
    builtin: Literal["python-docs", "digits", "breast-cancer"] | None = None
    """Small real data that comes inside a package, for trying things out: `python-docs` (English text of Python's own
    documentation), `digits` (1,797 images of 8 x 8 pixels), `breast-cancer` (569 rows of 30 measurements)."""
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Text: a file, a folder of text files, or a folder saved by Hugging Face `datasets`. Images: an ImageFolder
    (one folder per class), a torchvision data set's root (with `torchvision`), or an .npz with `x` and `y`. Table: a
    .csv or an .npz with `x` and `y`."""
    torchvision: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Images: name of a torchvision data set found under `path`, such as CIFAR100. Nothing is downloaded."""
    tokenizer: Annotated[str, Field(min_length=1, max_length=4096)] = "bytes"
    """Text: `bytes` (256 symbols, no vocabulary) or the path of a Hugging Face tokenizer, or hf://owner/model@revision
    from the hub."""
    text_column: Annotated[str, Field(min_length=1, max_length=256)] = "text"
    """Text: the column that holds the text, for a `datasets` folder."""
    target_column: Annotated[str, Field(min_length=1, max_length=256)] = "target"
    """Table: the .csv column to predict (a class label)."""
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Images: side in pixels that images are resized to; by default as they are."""
    augment: bool = False
    """Images: random crops and horizontal flips. Inputs then differ in each pass, so no prefix is cached."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share held out for validation when the data has no split of its own."""
    validation_limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many validation tokens (or samples) per evaluation; by default all of the held-out part."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """No source, two sources, or fields that are for another kind of data."""
        if self.kind == "None":
            for field in ("builtin", "path"):
                if getattr(self, field):
                    yield (
                        (field,),
                        f"kind None takes no {field}: the entrypoint brings its own data; remove one of the two",
                    )
        elif self.builtin is None and self.path is None:
            yield (), f"gives no source; add path, or builtin: {_BUILTIN_OF[self.kind]} to try things out"
        elif self.builtin is not None and self.path is not None:
            yield ("path",), "builtin and path are two sources; remove one of the two"
        if self.builtin and self.kind != "None" and _BUILTIN_OF[self.kind] != self.builtin:
            right = next(kind for kind, name in _BUILTIN_OF.items() if name == self.builtin)
            yield (
                ("builtin",),
                f"{self.builtin} is of kind {right}; set kind: {right}, or builtin: {_BUILTIN_OF[self.kind]}",
            )
        for field, kind in _DATA_FIELDS.items():
            if self.kind != kind and getattr(self, field) != DataSpec.model_fields[field].default:
                name = to_camel(field)
                yield (name,), f"{name} is for kind {kind}, not for {self.kind}; remove it or set kind: {kind}"
        if self.torchvision and not self.path:
            yield ("torchvision",), "torchvision needs path, the data set's root folder (nothing is downloaded); add it"


_BUILTIN_OF = {"Text": "python-docs", "Images": "digits", "Table": "breast-cancer"}
"""Which built-in data there is of a kind."""
_DATA_FIELDS = {
    "torchvision": "Images",
    "tokenizer": "Text",
    "text_column": "Text",
    "target_column": "Table",
    "image_size": "Images",
    "augment": "Images",
}
"""Which kind of data a field is for."""


# --- training ---------------------------------------------------------------------------------------------------------

Precision = Literal["fp32", "bf16", "fp16"]


class OptimizerSpec(Section):
    """How the trainable layers are updated. Every field is a usual target of a hyperparameter's `bind`."""

    name: Literal["AdamW", "Adam", "SGD", "Adafactor", "AdamW8bit"] = "AdamW"
    """AdamW8bit keeps its states in 8 bits and needs bitsandbytes and a GPU."""
    lr: Annotated[float, Field(gt=0, le=1e3)] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Decoupled for AdamW; applied to matrices only, never to biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam and its kin: decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Adam and its kin: decay of the mean of squared gradients."""
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    """Adam and its kin: keeps the division finite."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    nesterov: bool = False
    """SGD only."""
    fused: bool | None = None
    """Use the fused kernel, which saves a temporary as large as the trainable part. By default where it exists."""


class ScheduleSpec(Section):
    """Learning rate over the tokens (or samples) seen; its horizon is the highest rung's tokens."""

    name: Literal["Constant", "Cosine", "Linear"] = "Cosine"
    """How the learning rate goes on after the warm-up."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the horizon over which the learning rate rises linearly from zero."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the horizon, as a share of the peak."""


class TrainingSpec(Section):
    """How a trial is trained. Any field may be bound to a hyperparameter by its path, such as training.optimizer.lr."""

    batch_size: Annotated[int, Field(ge=1, le=1_048_576)] = 8
    """Sequences (or samples) per optimizer step and accumulation step."""
    accumulation: Annotated[int, Field(ge=1, le=65536)] = 1
    """Micro-batches per optimizer step."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 256
    """Tokens per sequence (language models)."""
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    precision: Precision = "fp32"
    """Precision of the trainable part's compute; weights and optimizer state stay in fp32."""
    prefix_precision: Literal["fp32", "bf16"] = "fp32"
    """Precision in which the frozen prefix is stored and run. bf16 halves its memory and changes features a little."""
    gradient_clipping: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Largest norm of the gradient; unset for no clipping."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Training loss only; validation is always measured without."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Sets the dropout of the trainable part; unset keeps the model's own. The frozen prefix never drops."""
    activation_checkpointing: bool = False
    """Recompute the trainable blocks' activations in the backward pass: less memory, about a third more compute."""


# --- in: the run ------------------------------------------------------------------------------------------------------


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
    """What is reported as the objective: `loss`, `perplexity`, `accuracy`, `error`, or an entrypoint's own name."""
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


# --- out: the result --------------------------------------------------------------------------------------------------

Reason = Literal["Completed", "Diverged", "Stopped", "OutOfMemory", "Fault", "Deadline"]


class Record(Section):
    """What a trainer leaves behind; one of a later version, under way while the operator is replaced, may say more."""

    model_config = ConfigDict(extra="ignore")


class TrialResult(Record):
    """What became of one trial in one run."""

    name: str
    reason: Reason
    """Completed: trained to the rung's tokens. Diverged: the loss was not finite; the trial ended early and ranks last.
    Stopped: by SIGTERM, continue from the checkpoint. OutOfMemory, Fault: of the whole run."""
    objective: float | None = None
    """Last value of the study's metric; None where there is none. NaN and infinities travel as strings."""
    tokens: Annotated[int, Field(ge=0)] = 0
    checkpoint: str | None = None
    """Relative to `RunSpec.checkpoint`; None where nothing was written."""

    @field_validator("objective", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else value

    @field_serializer("objective", when_used="json")
    def _to_text(self, value: float | None) -> float | str | None:
        if value is None or math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


class RunResult(Record):
    """The durable record of a run, written atomically at its end (termination log), at most `RESULT_LIMIT_BYTES`."""

    run: str
    layers: Annotated[int, Field(ge=1)]
    exit_code: ExitCode
    trials: list[TrialResult]
    peak_bytes: Annotated[int, Field(ge=0)] = 0
    """Peak of the bytes allocated on the device (torch.cuda.max_memory_allocated; on a CPU the tracker's)."""
    reserved_bytes: Annotated[int, Field(ge=0)] = 0
    """Peak of the bytes the caching allocator held."""
    device_bytes: Annotated[int, Field(ge=0)] = 0
    """Total memory of the device, 0 where there is no accelerator."""
    device: str = "cpu"
    """Product name of the accelerator, or cpu."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """From the process's start to its result, lingering excluded: what the run is charged."""
    train_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Of these, in training and validation: what the cost model learns its speed from."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """For people: what went wrong and what would help."""

    def to_json(self) -> str:
        """One line of JSON within `RESULT_LIMIT_BYTES`; the message is shortened first where it does not fit."""
        text = self.model_dump_json(by_alias=True, exclude_defaults=True)
        excess = len(text.encode()) - RESULT_LIMIT_BYTES
        if excess <= 0:
            return text
        kept = self.message.encode()[: max(0, len(self.message.encode()) - excess - 16)].decode(errors="ignore")
        return self.model_copy(update={"message": kept}).model_dump_json(by_alias=True, exclude_defaults=True)


# --- what the model costs ---------------------------------------------------------------------------------------------


class Variant(Section):
    """Another configuration of a study, as far as it differs."""

    model: ModelSpec | None = None
    training: TrainingSpec | None = None
    hyperparameters: dict[str, Scalar] | None = None
    label: str = ""
    """For people: what is different about it."""


class ProfileSpec(Section):
    """What a profile depends on: the input of `python -m frostline_trainer profile` (a `RunSpec` holds all of it)."""

    model: ModelSpec
    data: DataSpec
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    """One configuration of the study, for custom entrypoints, which are tried out for a step."""
    variants: Annotated[list[Variant], Field(max_length=64)] = Field(default_factory=list)
    """Corners of the search space. Memory is foretold for the one that needs most, so that every trial fits."""

    def vary(self, variant: Variant) -> ProfileSpec:
        """The specification of one of the variants."""
        changes = {name: getattr(variant, name) for name in ("model", "training", "hyperparameters")}
        found = {name: value for name, value in changes.items() if value is not None}
        return self.model_copy(update={**found, "variants": []})


UPDATE_FLOPS = 100.0
"""What the optimizer's update of one parameter costs, in FLOPs of matrix products in the same time: it moves some
twenty bytes and computes next to nothing."""
PACKING_PAYS = 1.25
"""Foretold gain from which packing several trials was never measured to lose."""


class ModelProfile(Section):
    """What a model costs at each z, computed once per model by `python -m frostline_trainer profile`.

    Lists are indexed by z - 1: entry 0 is for z = 1 (only the output unit trains), entry L - 1 for the whole network.
    FLOPs are per token (per sample for images and tables), one multiply-add counted as two.
    """

    hash: str
    """Of everything the profile depends on, so that it can be cached."""
    layers: Annotated[int, Field(ge=1)]
    """L: number of units from the input's to the output's."""
    unit: Literal["tokens", "samples"]
    parameters: Annotated[list[int], Field(min_length=1)]
    """Trainable parameters at z."""
    prefix_flops: list[float]
    """Forward pass of the frozen prefix at z: paid once per batch by all trials of a run."""
    suffix_flops: list[float]
    """Forward and backward pass of the trainable part at z: paid by each trial."""
    step_tokens: Annotated[int, Field(ge=1)]
    """Tokens (or samples) per optimizer step at the study's batch size."""
    memory: MemoryProfile | None = None
    """Peak device memory, where it was asked for."""
    notes: list[str] = Field(default_factory=list)
    """For people: what was assumed."""

    def packing_gain(self, layers: int, trials: int) -> float:
        """How many times faster per trial a run of so many trials is foretold to be than a run for each.

        One trial costs prefix + suffix per step, a packed one prefix / trials + suffix, where the suffix includes the
        optimizer's update (`UPDATE_FLOPS`). Packing pays from `PACKING_PAYS` on; docs/packing.md has what was measured.
        """
        prefix = self.prefix_flops[layers - 1] * self.step_tokens
        suffix = self.suffix_flops[layers - 1] * self.step_tokens + UPDATE_FLOPS * self.parameters[layers - 1]
        return (prefix + suffix) / (prefix / trials + suffix)

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Lists that do not have one entry per z."""
        for name in ("parameters", "prefix_flops", "suffix_flops"):
            if len(getattr(self, name)) != self.layers:
                yield (to_camel(name),), f"must have {self.layers} entries, one per z"


class MemoryProfile(Section):
    """Peak device memory of a training run as a function of z, batch and number of packed trials.

    Computed on any CPU by `python -m frostline_trainer profile` and evaluated here without torch. Sizes are in MiB
    (2**20 bytes) in the stored columns and in bytes in every answer. Columns are indexed by knot: `z[i]` is a layer
    count that was simulated; between knots memory is interpolated (blocks that are alike make it piecewise linear, and
    the knots are chosen so that this holds within `tolerance`). At most `PROFILE_LIMIT_BYTES` as JSON.
    """

    hash: str
    """Of everything the profile depends on, so that it can be cached: model, training settings, versions."""
    device: Literal["cuda", "cpu"]
    """Whose memory behaviour was simulated. On cpu the sizes are those of live tensors, which a run's `memoryLimit`
    bounds there: no context, no caching allocator, no workspaces."""
    method: Literal["Simulated", "Probed"] = "Simulated"
    """Probed: the model cannot be traced (some custom entrypoints), so a short real run was measured instead."""
    layers: Annotated[int, Field(ge=1)]
    """L."""
    batch: Annotated[int, Field(ge=1)]
    """Samples per micro-batch of the study; other batch sizes follow from `lines`."""
    margin: Annotated[float, Field(ge=1)] = 1.0
    """What a simulation cannot see, as a factor on the need: 1.08, or 1.10 with convolutions, whose workspaces depend
    on the algorithm that cuDNN chooses on the card."""
    workspace: Annotated[float, Field(ge=0)] = 0.0
    """MiB of cuBLAS workspaces: 8.125 per handle, one each for the forward and the backward thread."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Share by which interpolated values may differ from simulated ones."""
    z: Annotated[list[int], Field(min_length=1)]
    lines: list[list[float]]
    """Peak of live tensors of one trial: the largest of the lines [fixed, per sample, fixed, per sample, ...]."""
    trial: list[float]
    """What each further packed trial adds: weights, optimizer state and kept gradients of its last z layers."""
    packed: list[list[float]]
    """What packing adds once, as [fixed, per sample]: the prefix's output, held until the last trial has used it."""
    needed: list[float]
    """Least memory under which the caching allocator does not run out, as a multiple of the live bytes, at `batch`."""
    elsewhere: list[float]
    """The same at other batch sizes and numbers of trials: the largest of those replayed."""
    reserved: list[float]
    """What the caching allocator holds where memory is plenty, as a multiple of the live bytes."""

    @model_validator(mode="after")
    def _columns_agree(self) -> MemoryProfile:
        for name in ("lines", "trial", "packed", "needed", "elsewhere", "reserved"):
            if len(getattr(self, name)) != len(self.z):
                raise ValueError(f"{name} must have {len(self.z)} entries, one per knot")
        if self.z != sorted(set(self.z)) or self.z[0] != 1 or self.z[-1] != self.layers:
            raise ValueError("z must rise from 1 to layers")
        return self

    def peak_allocated(self, z: int, batch: int | None = None, trials: int = 1) -> int:
        """Peak bytes of live tensors (`torch.cuda.max_memory_allocated`, workspaces included).

        Args:
            z: trainable layers, 1 to L.
            batch: samples per micro-batch; by default the study's.
            trials: trials packed into the run (K).
        """
        return self._rising(z, batch, trials, lambda knot: 1.0) + self._workspace

    def peak_reserved(self, z: int, batch: int | None = None, trials: int = 1) -> int:
        """Peak bytes that the caching allocator holds on a card with room to spare (`max_memory_reserved`)."""
        return self._rising(z, batch, trials, lambda knot: self.reserved[knot]) + self._workspace

    def required(self, z: int, batch: int | None = None, trials: int = 1, correction: float = 1.0) -> int:
        """Bytes that a device must have free for the process's tensors so that the run fits.

        `(smallest cap under which the replayed allocator does not run out + cuBLAS workspaces) x margin x correction`.
        The CUDA context (about 600 MiB) is not in it: it is the caller's to take off the card's memory.

        Args:
            z: trainable layers, 1 to L.
            batch: samples per micro-batch; by default the study's.
            trials: trials packed into the run (K).
            correction: measured over predicted, learnt from earlier runs on this kind of device.
        """
        exact = trials == 1 and batch in (None, self.batch)
        ratios = self.needed if exact else self.elsewhere
        need = self._rising(z, batch, trials, lambda knot: ratios[knot]) + self._workspace
        return math.ceil(need * self.margin * correction)

    def largest_layers(self, limit: int, batch: int | None = None, trials: int = 1, correction: float = 1.0) -> int:
        """Largest z that `limit` bytes hold, 0 where not even one layer fits."""
        return self._largest(self.layers, lambda z: self.required(z, batch, trials, correction) <= limit)

    def largest_trials(
        self, limit: int, z: int, batch: int | None = None, correction: float = 1.0, most: int = MAX_TRIALS_PER_RUN
    ) -> int:
        """Largest number of packed trials, at most `most`, that `limit` bytes hold at z; 0 where not even one fits."""
        return self._largest(most, lambda trials: self.required(z, batch, trials, correction) <= limit)

    def largest_batch(self, limit: int, z: int, trials: int = 1, correction: float = 1.0, most: int = 1 << 20) -> int:
        """Largest micro-batch, at most `most`, that `limit` bytes hold at z; 0 where not even one sample fits."""
        return self._largest(most, lambda batch: self.required(z, batch, trials, correction) <= limit)

    @property
    def _workspace(self) -> int:
        return round(self.workspace * 2**20)

    @staticmethod
    def _largest(most: int, fits: Callable[[int], bool]) -> int:
        """Bisection: `fits` holds up to some number and not beyond."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _rising(self, z: int, batch: int | None, trials: int, ratio: Callable[[int], float]) -> int:
        """Interpolated between knots and never falling with z: more trainable layers never need less."""
        if not 1 <= z <= self.layers:
            raise ValueError(f"z must be between 1 and {self.layers}, not {z}")
        batch = self.batch if batch is None else batch
        best = before = 0.0
        for knot, at in enumerate(self.z):
            value = max(self._live(knot, batch, trials) * ratio(knot), best)
            if at >= z:
                if at > z:
                    value = before + (value - before) * (z - self.z[knot - 1]) / (at - self.z[knot - 1])
                return math.ceil(value * 2**20)
            best = before = value
        raise AssertionError("unreachable: the last knot is L")

    def _live(self, knot: int, batch: int, trials: int) -> float:
        numbers = self.lines[knot]
        peak = max(numbers[i] + numbers[i + 1] * batch for i in range(0, len(numbers), 2))
        if trials > 1:
            fixed, per_sample = self.packed[knot]
            peak += (trials - 1) * self.trial[knot] + max(0.0, fixed + per_sample * batch)
        return peak
