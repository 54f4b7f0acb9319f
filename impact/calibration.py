"""The calibration pass: every statistic that was asked for, from one forward (and backward) over the calibration set.

The cheap exact route of Algorithm 1's profiling stage. Linears that read the same input (q/k/v, gate/up) share one
moment of it, because Cov(W x + b) = W Cov(x) W^T; each group accumulates whichever side is smaller. The naive form is
impact.naive, which this one is tested and timed against.

A sample of an expectation is a token: every real one, prompt included, for the activations; padding is left out. The
loss of a sequence is the mean over its response tokens, so that neither padding nor the batch size changes anything.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

IGNORED_LABEL = -100

Gathered = dict[str, dict[str, Tensor]]
"""Module name -> tensor name -> tensor; modules that share a statistic hold the same tensor object."""


@dataclass
class Batch:
    """One padded batch: input_ids, attention_mask (1 on real tokens), labels (-100 where not trained), all (B, T)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


class Statistic:
    """One statistic's accumulators. A subclass overrides the hooks that it needs.

    groups: the first Linear of each set that reads one input -> the whole set, in forward order.
    """

    name: ClassVar[str]
    needs_gradient: ClassVar[bool] = False

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        self.groups, self.linears = groups, linears

    def on_input(self, group: str, x: Tensor, mask: Tensor) -> None:
        """x: (B, T, n), mask: (B, T) bool, once for each group and batch."""

    def on_output(self, module: str, y: Tensor, mask: Tensor) -> None:
        """y: (B, T, m), for each module and batch."""

    def on_gradient(self, module: str, g: Tensor) -> None:
        """g: (B, T, m), dl/dy; zero on padding."""

    def result(self, tokens: int, sequences: int) -> Gathered:
        """The expectations, after `tokens` real tokens in `sequences` sequences."""
        raise NotImplementedError


class ActivationCovariance(Statistic):
    """Mean and covariance behind Cov(y), equation 11, on the cheaper side of each group."""

    name = "activation_covariance"

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.on_output_side = {
            group
            for group, members in groups.items()
            if linears[group].in_features ** 2 > sum(linears[name].out_features ** 2 for name in members)
        }
        self.output_side_modules = {name for group in self.on_output_side for name in groups[group]}
        self.moments: dict[str, _Moment] = {}

    def on_input(self, group: str, x: Tensor, mask: Tensor) -> None:
        if group not in self.on_output_side:
            self._add(group, x, mask)

    def on_output(self, module: str, y: Tensor, mask: Tensor) -> None:
        if module in self.output_side_modules:
            self._add(module, y.detach(), mask)

    def _add(self, key: str, values: Tensor, mask: Tensor) -> None:
        tokens = values.flatten(0, 1) if bool(mask.all()) else values[mask]
        if key not in self.moments:
            self.moments[key] = _Moment(tokens)
        self.moments[key].add(tokens)

    def result(self, tokens: int, sequences: int) -> Gathered:
        gathered: Gathered = {}
        for group, members in self.groups.items():
            if group in self.on_output_side:
                for name in members:
                    mean, covariance = self.moments[name].finish(tokens)
                    gathered[name] = {"output_mean": mean, "output_covariance": covariance}
            else:
                mean, covariance = self.moments[group].finish(tokens)
                gathered |= {name: {"input_mean": mean, "input_covariance": covariance} for name in members}
        return gathered


class _Moment:
    """Sums of (v - c) and (v - c)(v - c)^T: the first batch's mean c keeps E[vv^T] - mu mu^T from cancelling."""

    def __init__(self, first: Tensor) -> None:
        self.dtype = accumulation_dtype(first.dtype)
        self.shift = first.to(self.dtype).mean(dim=0)
        width = first.shape[1]
        self.sum = torch.zeros(width, dtype=torch.float64, device=first.device)
        self.gram = torch.zeros(width, width, dtype=self.dtype, device=first.device)

    def add(self, tokens: Tensor) -> None:
        centred = tokens.to(self.dtype) - self.shift
        self.sum += centred.sum(dim=0)
        self.gram.addmm_(centred.T, centred)

    def finish(self, tokens: int) -> tuple[Tensor, Tensor]:
        offset = self.sum / tokens
        return self.shift + offset, self.gram.double() / tokens - torch.outer(offset, offset)


class SquaredGradient(Statistic):
    """E[(dl/dy)^2] over tokens, equation 4: one (m,) vector a Linear."""

    name = "squared_gradient"
    needs_gradient = True

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.sums: dict[str, Tensor] = {}

    def on_gradient(self, module: str, g: Tensor) -> None:
        squares = g.to(accumulation_dtype(g.dtype)).square().sum(dim=(0, 1)).double()
        self.sums[module] = self.sums[module] + squares if module in self.sums else squares

    def result(self, tokens: int, sequences: int) -> Gathered:
        return {name: {"squared_gradient": total / tokens} for name, total in self.sums.items()}


class InputMagnitude(Statistic):
    """mean |x_j| over the tokens of a sequence, averaged over sequences (ASVD): one (n,) vector a group."""

    name = "input_magnitude"

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.sums: dict[str, Tensor] = {}

    def on_input(self, group: str, x: Tensor, mask: Tensor) -> None:
        x = x.abs().to(accumulation_dtype(x.dtype))
        weights = mask.to(x.dtype) / mask.sum(dim=1, keepdim=True)
        total = torch.einsum("btn,bt->n", x, weights)
        self.sums[group] = self.sums[group] + total.double() if group in self.sums else total.double()

    def result(self, tokens: int, sequences: int) -> Gathered:
        means = {group: total / sequences for group, total in self.sums.items()}
        return {name: {"input_magnitude": means[group]} for group, names in self.groups.items() for name in names}


class WeightFisher(Statistic):
    """Row sums of the empirical Fisher E[(dl/dW_ij)^2] over sequences (FWSVD): one (m,) vector a Linear.

    With G = sum_t g_t x_t^T of a sequence, the row sums of G^2 are diag(g^T (X X^T) g): a T x T Gram matrix that the
    group shares stands in for the m x n gradient of each Linear.
    """

    name = "weight_fisher"
    needs_gradient = True

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.group_of = {name: group for group, names in groups.items() for name in names}
        self.gram: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}

    def on_input(self, group: str, x: Tensor, mask: Tensor) -> None:
        x = x.to(accumulation_dtype(x.dtype))
        self.gram[group] = x @ x.transpose(1, 2)

    def on_gradient(self, module: str, g: Tensor) -> None:
        g = g.to(accumulation_dtype(g.dtype))
        rows = torch.einsum("btm,btm->m", g, self.gram[self.group_of[module]] @ g).double()
        self.sums[module] = self.sums[module] + rows if module in self.sums else rows

    def result(self, tokens: int, sequences: int) -> Gathered:
        return {name: {"weight_fisher": total / sequences} for name, total in self.sums.items()}


STATISTICS: dict[str, type[Statistic]] = {
    statistic.name: statistic for statistic in (ActivationCovariance, SquaredGradient, InputMagnitude, WeightFisher)
}


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 at least: half precision would fill the null space of a covariance with rounding."""
    return torch.promote_types(dtype, torch.float32)


def calibrate(model: nn.Module, batches: Iterable[Batch], names: Iterable[str]) -> dict[str, Gathered]:
    """Gathers the named statistics in one pass; Algorithm 1, stage 1.

    model: a causal language model in eval mode, whose parameters are neither changed nor left with gradients.
    Raises ValueError if there are no batches, and KeyError for an unknown statistic.
    """
    names = sorted(names)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    device = next(model.parameters()).device
    statistics: list[Statistic] = []
    tokens = sequences = 0
    with ExitStack() as stack:
        mask = _Mask(torch.empty(0))
        for batch in batches:
            batch = batch.to(device)
            mask.value = batch.attention_mask.bool()
            if not statistics:
                groups = input_groups(model, linears, batch)
                statistics = [STATISTICS[name](groups, linears) for name in names]
                backward = any(s.needs_gradient for s in statistics)
                stack.enter_context(_frozen(model) if backward else torch.no_grad())
                stack.enter_context(_observed(groups, linears, statistics, mask))
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            if backward:
                sequence_mean_loss(logits, batch.labels).backward()
            del logits  # or the next batch's would come on top of them
            tokens += int(mask.value.sum())
            sequences += len(batch.input_ids)
    if not tokens:
        raise ValueError("the calibration set is empty")
    return {statistic.name: statistic.result(tokens, sequences) for statistic in statistics}


def sequence_mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over sequences of the mean loss over each one's response tokens. logits: (B, T, V), labels: (B, T)."""
    targets = labels[:, 1:]
    loss = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).to(accumulation_dtype(logits.dtype)),
        targets.flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="none",
    ).view_as(targets)
    return (loss.sum(dim=1) / (targets != IGNORED_LABEL).sum(dim=1).clamp(min=1)).sum()


def input_groups(model: nn.Module, linears: Mapping[str, nn.Linear], batch: Batch) -> dict[str, list[str]]:
    """Which Linears read one and the same input tensor: found by running the model, so no architecture is named."""
    seen: list[tuple[Tensor, list[str]]] = []

    def record(name: str, x: Tensor) -> None:
        for tensor, members in seen:
            if tensor is x:
                members.append(name)
                return
        seen.append((x, [name]))

    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: record(name, args[0]))
        for name, module in linears.items()
    ]
    with torch.no_grad(), _removed(handles):
        model(input_ids=batch.input_ids[:1, :4], attention_mask=batch.attention_mask[:1, :4], use_cache=False)
    return {members[0]: members for _, members in seen}


@dataclass
class _Mask:
    """The current batch's mask, for hooks that outlive the batch."""

    value: Tensor


@contextmanager
def _observed(
    groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear], statistics: list[Statistic], mask: _Mask
) -> Iterator[None]:
    """Calls the statistics' hooks while the model runs."""

    def listening(method: str) -> list[Statistic]:
        return [s for s in statistics if getattr(type(s), method) is not getattr(Statistic, method)]

    inputs, outputs, gradients = listening("on_input"), listening("on_output"), listening("on_gradient")

    def on_input(group: str, x: Tensor) -> None:
        for statistic in inputs:
            statistic.on_input(group, x.detach(), mask.value)

    def on_gradient(module: str, g: Tensor) -> None:
        for statistic in gradients:
            statistic.on_gradient(module, g)

    def on_output(module: str, y: Tensor) -> None:
        for statistic in outputs:
            statistic.on_output(module, y, mask.value)
        if gradients:
            y.register_hook(lambda g: on_gradient(module, g))

    handles: list[RemovableHandle] = [
        linears[group].register_forward_pre_hook(lambda _, args, group=group: on_input(group, args[0]))
        for group in groups
        if inputs
    ]
    handles += [
        linears[name].register_forward_hook(lambda _, args, y, name=name: on_output(name, y))
        for names in groups.values()
        for name in names
        if outputs or gradients
    ]
    with _removed(handles):
        yield


@contextmanager
def _removed(handles: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Backward for activations alone: no weight gradients, and the embedding's output starts the graph so that the
    first block's projections get theirs."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    handle = embedding.register_forward_hook(lambda _, args, output: output.requires_grad_(True))
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        handle.remove()
        for parameter in trainable:
            parameter.requires_grad_(True)
