"""What a trainer exposes at `/metrics` while it runs."""

from __future__ import annotations


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
