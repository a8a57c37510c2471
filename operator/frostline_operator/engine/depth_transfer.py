"""What a learning rate is at a rung that trains fewer layers than the whole network, as µP says it over widths.

Adam and its kin move every weight by about the learning rate, however large the gradient. To first order the network's
output then moves by lr times the sum over the trained units of |d output / d weights|, which grows with their number
where units contribute alike. For z of L units to move the output as the whole network does, the rate has to be L / z
times as large. SGD's steps shrink with the gradient, and its rate carries over as it is. Measured in
docs/does-it-work.md.
"""

from __future__ import annotations

from frostline_trainer.contract import TrainingSpec

_HIGHEST = 1e3
"""The contract's bound on learning rates."""


def factor(training: TrainingSpec, rung: int, layers: int, whole: int) -> float:
    """What a trial's learning rate is multiplied by; 1 wherever all layers are trained.

    Args:
        training: of the trial.
        rung: at which it runs.
        layers: z that it trains there.
        whole: L of the network.
    """
    if layers >= whole or training.optimizer.name == "SGD":
        return 1.0
    if training.depth_factors is not None:
        return training.depth_factors[rung] if rung < len(training.depth_factors) else 1.0
    return whole / layers if training.depth_transfer == "Auto" else 1.0


def transferred(training: TrainingSpec, rung: int, layers: int, whole: int) -> TrainingSpec:
    """The training with the rate that is in force at a rung, so that nothing later multiplies it again."""
    times = factor(training, rung, layers, whole)
    if training.depth_transfer == "None" and training.depth_factors is None:
        return training
    optimizer = training.optimizer.model_copy(update={"lr": min(training.optimizer.lr * times, _HIGHEST)})
    return training.model_copy(update={"optimizer": optimizer, "depth_transfer": "None", "depth_factors": None})
