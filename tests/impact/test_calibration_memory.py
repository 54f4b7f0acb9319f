"""Planned memory against the memory of real passes on small models, counted tensor by tensor."""

from typing import Any

import pytest
import torch

from evals.speed.random_weights import SHAPES, ModelShape, random_weights_model
from impact.calibration import STATISTICS, Batch, accumulate
from impact.calibration_memory import plan_streaming_pass, plan_whole_pass
from impact.live_bytes import LiveBytes, bytes_of
from impact.streaming_calibration import calibrate_streaming

SMALL = ModelShape(96, 32, 80, 3, 4, 2)
NAMES = ["activation_covariance", "squared_gradient"]
ROWS, LENGTH = 3, 11


def model_on(device: str, dtype: torch.dtype = torch.float32, shape: ModelShape = SMALL) -> Any:
    return random_weights_model(shape, None, dtype, device, attention="eager")


def batches(count: int) -> list[Batch]:
    ids = torch.arange(count * ROWS * LENGTH).view(count, ROWS, LENGTH) % 96
    return [Batch(each, torch.ones_like(each), each) for each in ids]


def stored(model: torch.nn.Module) -> int:
    return bytes_of(*model.parameters(), *model.buffers())


def test_live_bytes_are_those_of_new_tensors() -> None:
    old = torch.ones(1000)
    with LiveBytes() as counted:
        view = old.view(10, 100).T
        first = view + 1
        assert (counted.live, counted.peak) == (4000, 4000)
        part = first[2:]
        second = first.double()
        assert counted.live == 12000
        del first
        assert counted.live == 12000  # a view keeps all of it
        del part, second
        assert (counted.live, counted.peak) == (0, 12000)
        old += 1
        assert counted.peak == 12000
    assert torch.equal(view, old.view(10, 100).T)


def test_live_bytes_see_what_autograd_keeps() -> None:
    weight = torch.ones(50, 50, requires_grad=True)
    with LiveBytes() as counted:
        y = (weight @ weight).exp().sum()
        assert counted.live > 10_000  # exp's result, for the way back
        y.backward()
        del y
        weight.grad = None
        assert counted.live == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_whole_pass_takes_what_was_planned(dtype: torch.dtype) -> None:
    (planned,) = plan_whole_pass(model_on("meta", dtype), ROWS, LENGTH, NAMES)
    model = model_on("cpu", dtype)
    with LiveBytes() as counted:
        statistics, tokens, sequences = accumulate(model, batches(3), NAMES)
        held = sum(bytes_of(*statistic.accumulators()) for statistic in statistics)
        results = 0
        for statistic in statistics:
            results += sum(bytes_of(*tensors.values()) for _, tensors in statistic.result(tokens, sequences))
    assert planned.accelerator.weights == stored(model)
    assert planned.accelerator.accumulators == held
    assert planned.host.accumulators == results
    assert planned.accelerator.total - stored(model) == pytest.approx(counted.peak, rel=0.02)


@pytest.mark.parametrize("names", [NAMES, ["activation_covariance"]])
def test_the_streamed_pass_takes_what_was_planned(names: list[str]) -> None:
    """On a CPU both memories are one, and what would be copied to the accelerator is not copied."""
    window = 4
    phases = plan_streaming_pass(model_on("meta"), ROWS, LENGTH, names, window)
    model = model_on("cpu")
    with LiveBytes() as counted:
        for _ in calibrate_streaming(model, batches(window), names, torch.device("cpu")):
            pass
    host = phases[0].host
    assert host.weights == stored(model)
    together = host.accumulators + host.activations + max(phase.accelerator.activations for phase in phases)
    assert counted.peak == pytest.approx(together, rel=0.15)


def test_accelerator_memory_is_that_of_one_block() -> None:
    """It does not grow with depth, nor with the window; the host's does."""

    def plan(layers: int, window: int) -> tuple[int, int]:
        shape = ModelShape(96, 32, 80, layers, 4, 2)
        phases = plan_streaming_pass(model_on("meta", shape=shape), ROWS, LENGTH, NAMES, window)
        return max(p.accelerator.total for p in phases), max(p.host.total for p in phases)

    shallow, deep, long = plan(2, 1), plan(12, 1), plan(2, 9)
    assert shallow[0] == deep[0] == long[0]
    assert shallow[1] < min(deep[1], long[1])


def test_llama_2_70b_streams_through_80_gb_and_does_not_fit_whole() -> None:
    """From the real shapes, with batches of 8 rows of 250 tokens in bfloat16."""
    model = model_on("meta", torch.bfloat16, SHAPES["llama2-70b"])
    assert sum(p.numel() for p in model.parameters()) == 68_976_648_192
    streamed = plan_streaming_pass(model, 8, 250, NAMES, 32)
    assert max(phase.accelerator.total for phase in streamed) < 80e9 / 8
    assert bytes_of(*model.parameters()) > 80e9


def test_statistics_of_each_kind_are_planned() -> None:
    for name in STATISTICS:
        (planned,) = plan_whole_pass(model_on("meta"), ROWS, LENGTH, [name])
        assert planned.accelerator.accumulators > 0


def test_a_model_that_cannot_be_planned_with_is_refused() -> None:
    with pytest.raises(ValueError, match="meta device"):
        plan_whole_pass(model_on("cpu"), ROWS, LENGTH, NAMES)
    fused = random_weights_model(SMALL, None, torch.float32, "meta", attention="sdpa")
    with pytest.raises(ValueError, match="eager"):
        plan_streaming_pass(fused, ROWS, LENGTH, NAMES, 1)
