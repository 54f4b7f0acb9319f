"""The calibration pass for a model that is larger than the accelerator: one decoder block is there at a time.

The forward sweep takes all batches through a block before the next one is loaded, and keeps what enters each block on
the host. The backward sweep goes from the loss down: each block runs once more, now with the statistics listening, and
hands the gradient on to the block below. So the accelerator holds one block's weights, that block's accumulators and
one batch; what a run would take is planned by impact.calibration_memory. The numbers are those of
impact.calibration.calibrate, for one forward pass more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from impact.calibration import (
    STATISTICS,
    Batch,
    CurrentMask,
    Gathered,
    Statistic,
    finish,
    input_groups,
    observed,
    sequence_mean_loss,
    weights_frozen,
)

Call = dict[str, Any]
"""Keyword arguments that the model gives a block: masks, rotary tables."""


def calibrate_streaming(
    model: nn.Module,
    batches: Iterable[Batch],
    names: Iterable[str],
    device: torch.device,
    window: int | None = None,
) -> Iterator[dict[str, Gathered]]:
    """Gathers the named statistics on `device`, of a model that stays where it is, on the host.

    Yields what impact.calibration.calibrate returns in pieces: of one block after the other, then of the Linears
    outside the blocks. window: how many batches go through the model together, by default all of them; with fewer the
    host keeps fewer hidden states, and weights and accumulators travel once more for each window.
    Raises ValueError if there are no batches, or for a model whose blocks hand on more than a hidden state, and
    KeyError for an unknown statistic.
    """
    streamed = StreamedPass(model, names, device)
    remaining = iter(batches)
    tokens = sequences = 0
    with weights_frozen(model):
        while taken := list(islice(remaining, window)):
            streamed.sweep(taken)
            tokens += sum(int(batch.attention_mask.sum()) for batch in taken)
            sequences += sum(len(batch.input_ids) for batch in taken)
    if not tokens:
        raise ValueError("the calibration set is empty")
    for part in streamed.parts:
        yield part.finish(tokens, sequences, streamed.device, streamed.home)


class StreamedPass:
    """The model in parts, its blocks and the rest, and what is done with each of them on the accelerator."""

    def __init__(self, model: nn.Module, names: Iterable[str], device: torch.device) -> None:
        self.model, self.device = model, device
        self.home = next(model.parameters()).device
        self.names = sorted(names)
        self.backward = any(STATISTICS[name].needs_gradient for name in self.names)
        self.mask = CurrentMask()
        blocks, outside = _split(model)
        self.blocks = [modules[path] for path, modules in blocks.items()]
        self.parts = [Part(modules) for modules in (*blocks.values(), outside)]

    def sweep(self, window: Sequence[Batch]) -> None:
        """Takes the batches of a window through the model, and their gradients back."""
        states, calls = self.enter(window)
        *parts, outside = self.parts
        kept: list[list[Tensor]] = []
        for part, block, kwargs in zip(parts, self.blocks, calls, strict=True):
            kept += [states] if self.backward else []
            with torch.no_grad(), part.loaded(self.device):
                part.prepare(self.names, partial(self.forward, block, *self._here(states[0], kwargs[0])))
                with nullcontext() if self.backward else self.listening(part):
                    states = [self.forward(block, *here).to(self.home) for here in self._each(window, states, kwargs)]
        with outside.loaded(self.device):
            with torch.no_grad():
                outside.prepare(self.names, partial(self.logits, *self._here(window[0], states[0])))
            with self.listening(outside):
                gradients = self._ends(window, states)
        if not self.backward:
            return
        for part, block, kwargs in reversed(list(zip(parts, self.blocks, calls, strict=True))):
            columns = kept.pop(), kwargs, gradients
            with part.loaded(self.device), self.listening(part):
                gradients = [self.back(block, *here).to(self.home) for here in self._each(window, *columns)]

    def enter(self, window: Sequence[Batch]) -> tuple[list[Tensor], list[list[Call]]]:
        """What enters the first block, by batch, and what else the model gives each block, by block and batch."""
        states: list[Tensor] = []
        calls: list[list[Call]] = [[] for _ in self.blocks]

        def record(i: int, hidden: Tensor, **kwargs: Any) -> Tensor:
            calls[i].append(kwargs)
            if i == 0:
                states.append(hidden.detach())
            return hidden[:, :0]  # nothing behind needs the numbers

        with torch.no_grad(), self._replaced(record):
            for batch in window:
                batch = batch.to(self.home)
                self.model.base_model(  # type: ignore[operator]
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
                )
        return states, calls

    def forward(self, block: nn.Module, x: Tensor, kwargs: Call) -> Tensor:
        """A block's output, (B, T, h), from its input."""
        y = block(x, **kwargs)
        if not isinstance(y, Tensor):
            raise ValueError(f"{type(block).__name__} hands on more than a hidden state: it can't be streamed")
        return y

    def back(self, block: nn.Module, x: Tensor, kwargs: Call, gradient: Tensor) -> Tensor:
        """dl/dx of a block from dl/dy, (B, T, h) both: it runs again, and its Linears' hooks see all they ask for."""
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.forward(block, x, kwargs), x, gradient)[0]

    def logits(self, batch: Batch, state: Tensor) -> Tensor:
        """What the model makes of the last block's output."""
        with self._replaced(lambda i, hidden, **kwargs: state):
            output = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        return output.logits

    def head(self, batch: Batch, state: Tensor) -> Tensor:
        """dl/dy of the last block, (B, T, h), from its output y."""
        state = state.detach().requires_grad_()
        return torch.autograd.grad(sequence_mean_loss(self.logits(batch, state), batch.labels), state)[0]

    def _ends(self, window: Sequence[Batch], states: Sequence[Tensor]) -> list[Tensor]:
        """What `head` returns for each batch; without gradients nothing, but the Linears behind the blocks run."""
        if self.backward:
            return [self.head(*here).to(self.home) for here in self._each(window, window, states)]
        with torch.no_grad():
            for here in self._each(window, window, states):
                self.logits(*here)
        return []

    def listening(self, part: "Part") -> AbstractContextManager[None]:
        """The part's statistics see what runs, with their accumulators on the accelerator."""
        return part.listening(self.mask, self.device, self.home)

    def _each(self, window: Sequence[Batch], *columns: Sequence[Any]) -> Iterator[list[Any]]:
        """For each batch of the window its value of every column, on the accelerator, with its mask set."""
        for batch, *values in zip(window, *columns, strict=True):
            self.mask.value = batch.real_tokens(self.device)
            yield self._here(*values)

    def _here(self, *values: Any) -> list[Any]:
        return [on_device(value, self.device) for value in values]

    @contextmanager
    def _replaced(self, forward: Callable[..., Tensor]) -> Iterator[None]:
        """Every block calls this instead, with its number first."""
        own = [vars(block).get("forward") for block in self.blocks]
        for i, block in enumerate(self.blocks):
            block.forward = partial(forward, i)
        try:
            yield
        finally:
            for block, before in zip(self.blocks, own, strict=True):
                del block.forward
                if before is not None:
                    block.forward = before


class Part:
    """Modules that are on the accelerator together: a block's, or all that the model has outside its blocks."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        own = [t for m in modules.values() for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
        self.tensors: list[Tensor] = list({id(tensor): tensor for tensor in own}.values())
        self.linears = {name: m for name, m in modules.items() if isinstance(m, nn.Linear)}
        self.groups: dict[str, list[str]] | None = None
        self.statistics: list[Statistic] = []

    @contextmanager
    def loaded(self, device: torch.device) -> Iterator[None]:
        """Its weights on a device; those on the host stay, and nothing has to be copied back."""
        stored = [tensor.data for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.data = tensor.data.to(device)
        try:
            yield
        finally:
            for tensor, data in zip(self.tensors, stored, strict=True):
                tensor.data = data

    def prepare(self, names: Sequence[str], run: Callable[[], object]) -> None:
        """Makes the statistics when it is called first. run: a forward pass through the part."""
        if self.groups is None:
            self.groups = input_groups(self.linears, run)
            self.statistics = [STATISTICS[name](self.groups, self.linears) for name in names]

    @contextmanager
    def listening(self, mask: CurrentMask, device: torch.device, home: torch.device) -> Iterator[None]:
        """Its statistics see what runs; the accumulators are on the device meanwhile, and at home otherwise."""
        assert self.groups is not None
        self._move(device)
        with observed(self.groups, self.linears, self.statistics, mask):
            yield
        self._move(home)

    def finish(self, tokens: int, sequences: int, device: torch.device, home: torch.device) -> dict[str, Gathered]:
        """The expectations, made on the device and kept at home; the accumulators are used up."""
        self._move(device)
        finished = finish(self.statistics, tokens, sequences, home)
        self.statistics = []
        return finished

    def _move(self, place: torch.device) -> None:
        for statistic in self.statistics:
            statistic.to(place)


def on_device(value: Any, device: torch.device) -> Any:
    """A value with every tensor in it on a device; batches, tuples and dictionaries are looked into."""
    if isinstance(value, Tensor | Batch):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(on_device(each, device) for each in value)
    if isinstance(value, dict):
        return {key: on_device(each, device) for key, each in value.items()}
    return value


def _split(model: nn.Module) -> tuple[dict[str, dict[str, nn.Module]], dict[str, nn.Module]]:
    """The modules of each decoder block (an element of the outermost list of modules), and those of none, by name."""
    modules = dict(model.named_modules())
    lists = [(name, module) for name, module in modules.items() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError("a model without a list of decoder blocks can't be streamed")
    path, outermost = lists[0]
    blocks: dict[str, dict[str, nn.Module]] = {f"{path}.{i}": {} for i in range(len(outermost))}
    outside: dict[str, nn.Module] = {}
    for name, module in modules.items():
        within = next((block for block in blocks if f"{name}.".startswith(f"{block}.")), None)
        (outside if within is None else blocks[within])[name] = module
    return blocks, outside
