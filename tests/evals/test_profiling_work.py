"""Counted work against counts made by hand for Llama-2, and against what torch counts."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evals.speed.profiling_work import ProfilingWork, carried_over
from evals.speed.random_weights import SHAPES, ModelShape, random_weights_model

COVARIANCE = frozenset({"activation_covariance"})
BOTH = COVARIANCE | {"squared_gradient"}


def work(shape: ModelShape, implementation: str = "ours", **changes: object) -> ProfilingWork:
    one = ProfilingWork(shape, 1, 250, 1, COVARIANCE, (), implementation, True)
    return replace(one, **changes)  # type: ignore[arg-type]


def gram(one: ProfilingWork) -> float:
    """Operations of the second moments, a token."""
    without = replace(one, statistics=frozenset({"input_magnitude"}))
    return (one.operations()["calibration"] - without.operations()["calibration"]) / 250


@pytest.mark.parametrize(
    ("name", "forward", "naive", "cheapest"), [("llama2-7b", 13.4, 22.9, 4.33), ("llama2-13b", 25.9, 43.1, 8.44)]
)
def test_operations_a_token_of_the_papers_models(name: str, forward: float, naive: float, cheapest: float) -> None:
    """In 10^9; from the matrices' shapes by hand, attention not halved by its mask."""
    shape = SHAPES[name]
    plain = work(shape, statistics=frozenset({"input_magnitude"})).operations()["calibration"] / 250
    assert plain / 1e9 == pytest.approx(forward, rel=0.01)
    assert gram(work(shape, "naive")) / 1e9 == pytest.approx(naive, abs=0.06)
    assert gram(work(shape)) / 1e9 == pytest.approx(cheapest, abs=0.006)


@pytest.mark.parametrize(("name", "naive", "cheapest"), [("llama2-7b", 45.9, 8.7), ("llama2-13b", 86.2, 16.9)])
def test_accumulators_of_the_papers_models(name: str, naive: float, cheapest: float) -> None:
    shape = SHAPES[name]
    weights = 4 * shape.parameters()
    assert (work(shape, "naive").least_bytes(4) - weights) / 1e9 == pytest.approx(naive, abs=0.06)
    assert (work(shape).least_bytes(4) - weights) / 1e9 == pytest.approx(cheapest, abs=0.06)
    headless = replace(work(shape, "naive"), naive_head=False)
    assert work(shape, "naive").least_bytes(4) - headless.least_bytes(4) == 4 * 32000**2


def test_half_precision_weights_keep_single_precision_accumulators() -> None:
    shape = SHAPES["llama2-7b"]
    assert work(shape).least_bytes(4) - work(shape).least_bytes(2) == 2 * shape.parameters()


def test_a_forward_pass_is_what_torch_counts() -> None:
    shape = ModelShape(96, 32, 80, 2, 4, 2)
    model = random_weights_model(shape, None, torch.float32, attention="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(3, 11, dtype=torch.long))
    one = ProfilingWork(shape, 3, 11, 1, frozenset({"input_magnitude"}), (), "ours", True)
    # torch counts the masked half of the square too
    masked = 4 * 2 * 32 * 3 * (11 * 11 - 66)
    assert one.operations()["calibration"] == pytest.approx(counter.get_total_flops() - masked, rel=2e-3)


def test_gradients_double_the_passes_and_streaming_runs_forward_again() -> None:
    shape = SHAPES["llama2-7b"]
    passes = [
        work(shape, implementation, statistics=statistics).operations()["calibration"]
        - 250 * gram(work(shape, implementation))
        for implementation, statistics in (("ours", COVARIANCE), ("ours", BOTH), ("streamed", BOTH))
    ]
    assert passes[1:] == pytest.approx([2 * passes[0], 3 * passes[0]])


def test_streaming_70b_holds_a_fraction_of_its_weights() -> None:
    shape = SHAPES["llama2-70b"]
    assert work(shape, "streamed").least_bytes(2) < work(shape).least_bytes(2) / 40


def test_a_search_as_published_evaluates_and_decomposes_everything_anew() -> None:
    shape, candidates = SHAPES["llama2-13b"], tuple(i / 10 for i in range(1, 10))
    of = {
        implementation: work(
            shape,
            implementation,
            statistics=frozenset({"input_magnitude"}),
            candidates=candidates,
            rows=3950,
            search_rows=3950,
        ).operations()
        for implementation in ("ours", "estimated", "naive")
    }
    forward = of["ours"]["calibration"]
    assert of["naive"]["search"] == pytest.approx(281 * 9 * forward)
    assert of["ours"]["search"] == pytest.approx(281 * 9 * forward / 2)
    assert of["estimated"]["search"] < 3 * forward
    assert of["naive"]["decomposition"] == pytest.approx(9 * of["ours"]["decomposition"])


def test_time_is_carried_over_phase_by_phase() -> None:
    small = ProfilingWork(SHAPES["llama2-7b"], 8, 100, 4, frozenset({"input_magnitude"}), (0.5,), "ours", True)
    seconds = {"calibration": 3.0, "decomposition": 5.0, "search": 7.0}
    assert carried_over(seconds, small, small) == pytest.approx(15)
    assert carried_over(seconds, small, replace(small, rows=16)) == pytest.approx(18)
    assert carried_over(seconds, small, replace(small, search_rows=12)) == pytest.approx(29)
