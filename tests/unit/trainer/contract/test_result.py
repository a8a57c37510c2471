"""The record's form: it fits a termination message, and is read by other versions."""

from __future__ import annotations

from frostline_trainer.contract import (
    MAX_TRIALS_PER_RUN,
    RESULT_LIMIT_BYTES,
    ExitCode,
    RunResult,
    TrialResult,
    checkpoint_folder,
)


def test_the_result_of_the_largest_run_fits_a_termination_message() -> None:
    """With the longest names that a study can have, and figures of all digits."""
    study = "s" * 40
    run = f"{study}-b10-r10-1000"
    trials = [
        TrialResult(
            name=f"{study}-{1000 + number}", reason="Completed", objective=-1.2345678901234567e-100,
            tokens=10**10 + number,
            checkpoint=checkpoint_folder(f"{study}-{1000 + number}", 10, run),
        )
        for number in range(MAX_TRIALS_PER_RUN)
    ]  # fmt: skip
    whole = RunResult(
        run=run, layers=100, exit_code=ExitCode.STOPPED, trials=trials, peak_bytes=10**11, reserved_bytes=10**11,
        device_bytes=10**11, device="NVIDIA H200 NVL 141GB HBM3e", seconds=123456.789, train_seconds=123456.789,
        message="stopped by a signal; checkpoints are written",
    )  # fmt: skip
    text = whole.to_json()
    assert len(text.encode()) <= RESULT_LIMIT_BYTES
    assert RunResult.model_validate_json(text) == whole


def test_a_record_of_another_version_is_read_as_far_as_it_is_known() -> None:
    """Runs are under way while the operator is replaced by the next one."""
    trial = '{"name": "a", "reason": "Completed", "objective": 1.5, "tokens": 8, "checkpointBytes": 9}'
    result = RunResult.model_validate_json(f'{{"run": "r", "layers": 1, "exitCode": 0, "trials": [{trial}], "new": 1}}')
    assert result.trials[0].objective == 1.5
