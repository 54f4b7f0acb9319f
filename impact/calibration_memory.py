"""How much memory a calibration pass takes, planned from a model's shapes before any weight is at hand.

The pass itself runs on the meta device, for one batch, with impact.live_bytes counting what its tensors would take.
So nothing is estimated but what the kernels need inside, and what an allocator leaves unused between tensors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from impact.calibration import Batch, Statistic, accumulate, weights_frozen
from impact.live_bytes import LiveBytes, bytes_of
from impact.streaming_calibration import Part, StreamedPass


@dataclass(frozen=True)
class Footprint:
    """Bytes in one memory at a phase's peak: weights, accumulators (or the finished statistics), and all the rest."""

    weights: int = 0
    accumulators: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.accumulators + self.activations


@dataclass(frozen=True)
class PhaseMemory:
    """What one phase of a pass takes on the accelerator and on the host."""

    phase: str
    accelerator: Footprint
    host: Footprint


def plan_whole_pass(model: nn.Module, rows: int, length: int, names: Iterable[str]) -> list[PhaseMemory]:
    """impact.calibration.calibrate with all of the model on the accelerator and its statistics placed on the host.

    model: on the meta device, in the dtype of the run and with eager attention: a fused kernel keeps no scores and
    takes less. rows, length: of a batch without padding. The number of batches doesn't matter.
    Raises ValueError for a model that isn't so.
    """
    _check(model)
    results = 0
    with LiveBytes() as bytes_made:
        # the second batch finds the accumulators of the first
        statistics, tokens, sequences = accumulate(model, 2 * [_batch(rows, length)], names)
        held = _held(statistics)
        for statistic in statistics:
            results += sum(bytes_of(*tensors.values()) for _, tensors in statistic.result(tokens, sequences))
    accelerator = Footprint(_stored(model), held, bytes_made.peak - held)
    return [PhaseMemory("whole model", accelerator, Footprint(accumulators=results))]


def plan_streaming_pass(
    model: nn.Module, rows: int, length: int, names: Iterable[str], window: int
) -> list[PhaseMemory]:
    """impact.streaming_calibration.calibrate_streaming, with `window` batches at a time; else as `plan_whole_pass`.

    A phase's peak on the accelerator is that of its most demanding part. What the caller keeps of the results, on the
    host, comes on top.
    """
    _check(model)
    streamed = StreamedPass(model, names, torch.device("meta"))
    batch = _batch(rows, length)
    *blocks, outside = streamed.parts
    alike: dict[tuple[torch.Size, ...], dict[str, Footprint]] = {}
    footprints = []
    with weights_frozen(model):
        (state,), calls = streamed.enter([batch])
        for part, block, (kwargs,) in zip(blocks, streamed.blocks, calls, strict=True):
            shapes = tuple(tensor.shape for tensor in part.tensors)
            if shapes not in alike:  # most blocks are, and to run them all would take a minute
                alike[shapes] = _of_block(streamed, part, block, state, kwargs)
            footprints.append(alike[shapes])
        footprints.append(_of_the_rest(streamed, outside, batch.to(streamed.device), state))
    # a state enters every block and one leaves the last; a gradient takes its place on the way back
    states = len(blocks) + 1 if streamed.backward else 2
    entered = states * bytes_of(state) + bytes_of(*_tensors(calls), *_tensors(batch))
    host = Footprint(_stored(model), sum(part["finish"].accumulators for part in footprints), window * entered)
    peaks = {
        phase: max((part[phase] for part in footprints if phase in part), key=lambda footprint: footprint.total)
        for phase in dict.fromkeys(phase for part in footprints for phase in part)
    }
    return [PhaseMemory(phase, peak, host) for phase, peak in peaks.items()]


def _of_block(
    streamed: StreamedPass, part: Part, block: nn.Module, state: Tensor, kwargs: dict[str, Any]
) -> dict[str, Footprint]:
    """Phase -> what a block takes on the accelerator."""
    with torch.no_grad():
        part.prepare(streamed.names, partial(streamed.forward, block, state, kwargs))
        forward = partial(streamed.forward, block)
        found = {"forward": _peak(streamed, part, forward, state, kwargs, listening=not streamed.backward)}
    if streamed.backward:
        back = partial(streamed.back, block)
        found["backward"] = _peak(streamed, part, back, state, kwargs, torch.empty_like(state), listening=True)
    return found | {"finish": _finishing(part)}


def _of_the_rest(streamed: StreamedPass, part: Part, batch: Batch, state: Tensor) -> dict[str, Footprint]:
    """Phase -> what everything outside the blocks takes on the accelerator."""
    with torch.no_grad():
        part.prepare(streamed.names, partial(streamed.logits, batch, state))
    with torch.set_grad_enabled(streamed.backward):
        end = streamed.head if streamed.backward else streamed.logits
        head = _peak(streamed, part, end, batch, state, listening=True)
    return {"head": head, "finish": _finishing(part)}


def _check(model: nn.Module) -> None:
    if any(not tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError("memory is planned with a model on the meta device")
    if model.config._attn_implementation != "eager":  # type: ignore[union-attr]
        raise ValueError("memory is planned with eager attention: others look at the values of a mask")


def _batch(rows: int, length: int) -> Batch:
    """Where nothing is padding the pass looks at no value, and can run without any."""
    ids = torch.zeros(rows, length, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids), ids)


def _peak(streamed: StreamedPass, part: Part, step: Callable[..., object], *given: Any, listening: bool) -> Footprint:
    """What a part's step takes, with the values that it is given."""
    with LiveBytes() as bytes_made:
        if listening:
            with streamed.listening(part):
                step(*given)
        else:
            step(*given)
    held = _held(part.statistics) if listening else 0
    entered = bytes_of(*(tensor for value in given for tensor in _tensors(value)))
    return Footprint(bytes_of(*part.tensors), held, bytes_made.peak - held + entered)


def _finishing(part: Part) -> Footprint:
    """Making the expectations, one after the other."""
    held = _held(part.statistics)
    with LiveBytes() as bytes_made:
        for statistic in part.statistics:
            for _ in statistic.result(tokens=1, sequences=1):  # of how many changes no size
                pass
    return Footprint(0, held, bytes_made.peak)


def _stored(model: nn.Module) -> int:
    return bytes_of(*model.parameters(), *model.buffers())


def _held(statistics: Sequence[Statistic]) -> int:
    return sum(bytes_of(*statistic.accumulators()) for statistic in statistics)


def _tensors(value: Any) -> list[Tensor]:
    """Every tensor of what a step is given; a module's weights are counted with its part."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Batch):
        return [value.input_ids, value.attention_mask, value.labels]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for each in value for tensor in _tensors(each)]
