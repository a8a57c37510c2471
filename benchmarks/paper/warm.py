"""A remedy for random prefixes: let the low rungs stand on a prefix that was trained a little.

One configuration (the one that somebody would try first) is trained in full for an eighth of the tokens, once for the
whole search. Low rungs then freeze *its* first layers instead of random ones; the last z layers start fresh, as ever.
Full training, which everything is held against, stays what it was: from scratch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.paper.cases import FRACTIONS, Case
from benchmarks.paper.grid import Leg, Rows, build, memory_folder, packs, rows_path, run_spec, trained
from frostline_trainer.contract import OptimizerSpec, RunSpec, ScheduleSpec, TrainingSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.models.weights import estimate_statistics, has_batch_norm
from frostline_trainer.training.loop import train_step
from frostline_trainer.training.pack import Pack, statistics_batches

FIRST_GUESS = {"name": "AdamW", "lr": 1e-3, "weight_decay": 0.01}
WARM_SEED = 0


def warm_weights(case: Case) -> dict[str, Tensor]:
    """The whole network's weights after an eighth of the tokens at the first guess."""
    with tempfile.TemporaryDirectory() as folder:
        spec = run_spec(case, Leg(case.layers, case.tokens // FRACTIONS), [0], WARM_SEED, folder)
        training = TrainingSpec.model_validate(
            {
                **case.study().training.model_dump(),
                "optimizer": OptimizerSpec(**FIRST_GUESS).model_dump(),  # type: ignore[arg-type]
                "schedule": ScheduleSpec(name="Constant", warmup=0.05).model_dump(),
                "gradient_clipping": 1.0,
            }
        )
        trial = spec.trials[0].model_copy(update={"training": training})
        pack = build(case, spec.model_copy(update={"trials": [trial]}))
        for step in range(pack.last_step):
            train_step(pack, step, pack.members)
        return {name: tensor.detach().clone() for name, tensor in pack.members[0].suffix.state().items()}


def warm_pack(case: Case, spec: RunSpec, weights: dict[str, Tensor]) -> Pack:
    """The usual pack, its prefix holding these weights; frozen norms take their statistics from what they now see."""
    source = open_data(spec.data, spec.trials[0].training, spec.seed)
    network = case.build(source.shape, spec.seed)
    names = {id(parameter): name for name, parameter in network.module().named_parameters()}
    pack = build(case, spec, network)
    assert pack.prefix is not None
    with torch.no_grad():
        for parameter in pack.prefix.parameters():
            parameter.copy_(weights[names[id(parameter)]])
    if has_batch_norm(pack.prefix):
        size = spec.trials[0].training.batch_size
        estimate_statistics(pack.prefix, statistics_batches(source, size, spec.seed, pack.device))
    return pack


def compute(case: Case, scale: str) -> Iterator[str]:
    """Every configuration at the low z on the warm prefix; resumable like the grid."""
    rows = Rows(rows_path(case, scale))
    weights: dict[str, Tensor] = {}
    for z in case.warm:
        for members in packs(case):
            if rows.has("warm", 0, z, members):
                continue
            weights = weights or warm_weights(case)
            with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
                spec = run_spec(case, Leg(z, case.tokens), members, 0, folder)
                rows.add("warm", 0, z, trained(warm_pack(case, spec, weights), spec))
            yield f"{case.name} warm z={z} configurations {members[0]}-{members[-1]}"
