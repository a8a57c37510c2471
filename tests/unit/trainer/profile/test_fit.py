"""The compact profile is near the simulations that it stands for, and small."""

from __future__ import annotations

import pytest

from frostline_trainer.device.tracker import Trace
from frostline_trainer.profile.allocator import smallest_cap
from frostline_trainer.profile.fit import Simulation, fit

MIB = 2**20


def stepped(widths: list[int]) -> object:
    """A network of units of these widths: weights, gradients and states per unit, an activation per trained unit."""

    def simulate(z: int, batch: int, trials: int) -> Simulation:
        trace = Trace()
        trained = widths[len(widths) - z :]
        for width in widths:
            trace.allocate(width * MIB)
        for _ in range(trials):
            for width in trained:
                trace.allocate(2 * width * MIB)
        activations = [trace.allocate(width * batch * 10_000) for width in trained]
        for block in reversed(activations):
            trace.release(block)
        return Simulation(trace, sum(2 * width * MIB for width in trained))

    return simulate


def test_blocks_that_are_alike_need_few_knots_and_blocks_that_differ_get_their_own() -> None:
    alike = fit(stepped([8] * 60), layers=60, batch=4)  # type: ignore[arg-type]
    assert len(alike.z) <= 5
    differing = fit(stepped([2**i for i in range(12)]), layers=12, batch=4)  # type: ignore[arg-type]
    assert len(differing.z) >= 8
    for z in range(1, 13):
        truth = stepped([2**i for i in range(12)])(z, 64, 3).trace.peak()  # type: ignore[operator]
        profiled = differing.peak_allocated(z, 64, 3) - differing.workspace * MIB
        assert profiled == pytest.approx(truth, rel=0.02)


def test_a_very_deep_irregular_network_still_fits_4096_bytes() -> None:
    widths = [(i * 7919) % 97 + 1 for i in range(400)]
    profile = fit(stepped(widths), layers=400, batch=4)  # type: ignore[arg-type]
    assert len(profile.model_dump_json(by_alias=True).encode()) <= 4096
    for z in (1, 57, 200, 399, 400):
        truth = stepped(widths)(z, 4, 1).trace.peak()  # type: ignore[operator]
        profiled = profile.peak_allocated(z) - profile.workspace * MIB
        assert profiled == pytest.approx(truth, rel=profile.tolerance + 0.02)


def test_knots_are_where_the_need_bends_even_if_the_live_bytes_do_not() -> None:
    def simulate(z: int, batch: int, trials: int) -> Simulation:
        trace = Trace()
        for unit in range(z):  # blocks just above 10 MiB take segments of 12 MiB
            for size in [20 * MIB] if unit < 16 else 2 * [10 * MIB + 512]:
                trace.allocate(size)
        return Simulation(trace, 0)

    profile = fit(simulate, layers=60, batch=4, packs=False)
    for z in range(1, 61):
        bare = profile.required(z) / profile.margin - profile.workspace * MIB
        assert bare == pytest.approx(smallest_cap(simulate(z, 4, 1).trace), rel=0.03)
