"""The calibration pass: every statistic that was asked for, from one forward (and backward) over the calibration set.

The cheap exact route of Algorithm 1's profiling stage. Linears that read the same input (q/k/v, gate/up) share one
moment of it, because Cov(W x + b) = W Cov(x) W^T; each group accumulates whichever side is smaller. The naive form is
impact.naive, which this one is tested and timed against.

A sample of an expectation is a token: every real one, prompt included, for the activations; padding is left out. The
loss of a sequence is the mean over its response tokens, so that neither padding nor the batch size changes anything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
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

    def real_tokens(self, device: torch.device) -> Tensor | None:
        """Where a token is no padding, (B, T) bool on a device; None where no token is, so that nothing is selected."""
        mask = self.attention_mask.bool()
        return None if bool(mask.all()) else mask.to(device)


class Statistic:
    """One statistic's accumulators. A subclass overrides the hooks that it needs.

    groups: the first Linear of each set that reads one input -> the whole set, in forward order. sums: what most
    subclasses accumulate in, by `add`. A mask is None where a batch has no padding.
    """

    name: ClassVar[str]
    needs_gradient: ClassVar[bool] = False

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        self.groups, self.linears = groups, linears
        self.sums: dict[str, Tensor] = {}

    def on_input(self, group: str, x: Tensor, mask: Tensor | None) -> None:
        """x: (B, T, n), mask: (B, T) bool, once for each group and batch."""

    def on_output(self, module: str, y: Tensor, mask: Tensor | None) -> None:
        """y: (B, T, m), for each module and batch."""

    def on_gradient(self, module: str, g: Tensor) -> None:
        """g: (B, T, m), dl/dy; zero on padding."""

    def add(self, key: str, value: Tensor) -> None:
        """Adds to a sum, in float64."""
        value = value.double()
        self.sums[key] = self.sums[key] + value if key in self.sums else value

    def to(self, device: torch.device) -> None:
        """Moves the accumulators, between batches."""
        self.sums = {key: total.to(device) for key, total in self.sums.items()}

    def accumulators(self) -> list[Tensor]:
        """What it holds between batches."""
        return list(self.sums.values())

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        """Yields modules and the expectations that they share, after `tokens` real tokens in `sequences` sequences.

        Large accumulators are given up one by one, so that they don't all stand beside their expectations.
        """
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

    def on_input(self, group: str, x: Tensor, mask: Tensor | None) -> None:
        if group not in self.on_output_side:
            self._accumulate(group, x, mask)

    def on_output(self, module: str, y: Tensor, mask: Tensor | None) -> None:
        if module in self.output_side_modules:
            self._accumulate(module, y.detach(), mask)

    def _accumulate(self, key: str, values: Tensor, mask: Tensor | None) -> None:
        tokens = _real(values, mask)
        if key not in self.moments:
            self.moments[key] = _Moment(tokens)
        self.moments[key].add(tokens)

    def to(self, device: torch.device) -> None:
        for moment in self.moments.values():
            moment.to(device)

    def accumulators(self) -> list[Tensor]:
        return [tensor for moment in self.moments.values() for tensor in (moment.shift, moment.sum, moment.gram)]

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for group, members in self.groups.items():
            if group in self.on_output_side:
                for name in members:
                    yield [name], self._finish(name, "output", tokens)
            else:
                yield members, self._finish(group, "input", tokens)

    def _finish(self, key: str, side: str, tokens: int) -> dict[str, Tensor]:
        mean, covariance = self.moments.pop(key).finish(tokens)
        return {f"{side}_mean": mean, f"{side}_covariance": covariance}


class _Moment:
    """Sums of (v - c) and (v - c)(v - c)^T: the first batch's mean c keeps E[vv^T] - mu mu^T from cancelling."""

    def __init__(self, first: Tensor) -> None:
        dtype = accumulation_dtype(first.dtype)
        self.shift = first.to(dtype).mean(dim=0)
        width = first.shape[1]
        self.sum = torch.zeros(width, dtype=torch.float64, device=first.device)
        self.gram = torch.zeros(width, width, dtype=dtype, device=first.device)

    def add(self, tokens: Tensor) -> None:
        centred = tokens - self.shift  # in the shift's precision, without a copy of the tokens in it
        self.sum += centred.sum(dim=0)
        self.gram.addmm_(centred.T, centred)

    def to(self, device: torch.device) -> None:
        self.shift, self.sum, self.gram = self.shift.to(device), self.sum.to(device), self.gram.to(device)

    def finish(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Mean and covariance in float64; the sums are used up."""
        offset = self.sum / tokens
        covariance = self.gram.double()
        covariance /= tokens
        covariance -= torch.outer(offset, offset)
        return self.shift + offset, covariance


class SquaredGradient(Statistic):
    """E[(dl/dy)^2] over tokens, equation 4: one (m,) vector a Linear."""

    name = "squared_gradient"
    needs_gradient = True

    def on_gradient(self, module: str, g: Tensor) -> None:
        self.add(module, g.to(accumulation_dtype(g.dtype)).square().sum(dim=(0, 1)))

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for name, total in self.sums.items():
            yield [name], {"squared_gradient": total / tokens}


class InputMagnitude(Statistic):
    """mean |x_j| over the tokens of a sequence, averaged over sequences (ASVD): one (n,) vector a group."""

    name = "input_magnitude"

    def on_input(self, group: str, x: Tensor, mask: Tensor | None) -> None:
        x = x.abs().to(accumulation_dtype(x.dtype))
        if mask is None:
            weights = x.new_full(x.shape[:2], 1 / x.shape[1])
        else:
            weights = mask.to(x.dtype) / mask.sum(dim=1, keepdim=True)
        self.add(group, torch.einsum("btn,bt->n", x, weights))

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for group, names in self.groups.items():
            yield names, {"input_magnitude": self.sums[group] / sequences}


class InputVariance(Statistic):
    """Mean and variance over tokens of every input channel (FLAP): two (n,) vectors a group."""

    name = "input_variance"

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.shifts: dict[str, Tensor] = {}  # the first batch's means, for the reason that _Moment has one

    def on_input(self, group: str, x: Tensor, mask: Tensor | None) -> None:
        tokens = _real(x, mask)
        if group not in self.shifts:
            self.shifts[group] = tokens.to(accumulation_dtype(x.dtype)).mean(dim=0)
        centred = tokens - self.shifts[group]
        self.add(f"{group}:sum", centred.sum(dim=0))
        self.add(f"{group}:squares", centred.square().sum(dim=0))

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.shifts = {group: shift.to(device) for group, shift in self.shifts.items()}

    def accumulators(self) -> list[Tensor]:
        return [*super().accumulators(), *self.shifts.values()]

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for group, names in self.groups.items():
            offset = self.sums[f"{group}:sum"] / tokens
            variance = self.sums[f"{group}:squares"] / tokens - offset.square()
            # clamped: of a channel that is constant, rounding may be all that is left
            yield names, {"channel_mean": self.shifts[group] + offset, "channel_variance": variance.clamp(min=0)}


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

    def on_input(self, group: str, x: Tensor, mask: Tensor | None) -> None:
        x = x.to(accumulation_dtype(x.dtype))
        self.gram[group] = x @ x.transpose(1, 2)

    def on_gradient(self, module: str, g: Tensor) -> None:
        g = g.to(accumulation_dtype(g.dtype))
        self.add(module, torch.einsum("btm,btm->m", g, self.gram[self.group_of[module]] @ g))

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.gram.clear()  # of the last batch

    def result(self, tokens: int, sequences: int) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for name, total in self.sums.items():
            yield [name], {"weight_fisher": total / sequences}


STATISTICS: dict[str, type[Statistic]] = {
    statistic.name: statistic
    for statistic in (ActivationCovariance, SquaredGradient, InputMagnitude, InputVariance, WeightFisher)
}


def _real(values: Tensor, mask: Tensor | None) -> Tensor:
    """The real tokens of (B, T, n), (N, n)."""
    return values.flatten(0, 1) if mask is None else values[mask]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 at least: half precision would fill the null space of a covariance with rounding."""
    return torch.promote_types(dtype, torch.float32)


def calibrate(
    model: nn.Module, batches: Iterable[Batch], names: Iterable[str], place: torch.device | None = None
) -> dict[str, Gathered]:
    """Gathers the named statistics in one pass; Algorithm 1, stage 1.

    model: a causal language model in eval mode, whose parameters are neither changed nor left with gradients. place:
    where the statistics go, by default to the model's device. impact.streaming_calibration is for a model that is
    larger than the accelerator.
    Raises ValueError if there are no batches, and KeyError for an unknown statistic.
    """
    return finish(*accumulate(model, batches, names), place or next(model.parameters()).device)


def accumulate(model: nn.Module, batches: Iterable[Batch], names: Iterable[str]) -> tuple[list[Statistic], int, int]:
    """The pass itself: the statistics before they are finished, and of how many tokens and sequences they are."""
    names = sorted(names)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    device = next(model.parameters()).device
    statistics: list[Statistic] = []
    tokens = sequences = 0
    with ExitStack() as stack:
        mask = CurrentMask()
        for batch in batches:
            tokens += int(batch.attention_mask.sum())
            sequences += len(batch.input_ids)
            mask.value = batch.real_tokens(device)
            batch = batch.to(device)
            if not statistics:
                ids, attended = batch.input_ids[:1, :4], batch.attention_mask[:1, :4]
                groups = input_groups(linears, partial(model, input_ids=ids, attention_mask=attended, use_cache=False))
                statistics = [STATISTICS[name](groups, linears) for name in names]
                backward = any(s.needs_gradient for s in statistics)
                stack.enter_context(weights_frozen(model) if backward else torch.no_grad())
                stack.enter_context(observed(groups, linears, statistics, mask))
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            if backward:
                sequence_mean_loss(logits, batch.labels).backward()
            del logits  # or the next batch's would come on top of them
    if not tokens:
        raise ValueError("the calibration set is empty")
    return statistics, tokens, sequences


def finish(statistics: Iterable[Statistic], tokens: int, sequences: int, place: torch.device) -> dict[str, Gathered]:
    """The expectations, each brought to its place before the next one is made."""
    finished: dict[str, Gathered] = {}
    for statistic in statistics:
        gathered = finished.setdefault(statistic.name, {})
        for modules, tensors in statistic.result(tokens, sequences):
            placed = {key: tensor.to(place) for key, tensor in tensors.items()}
            gathered.update({name: dict(placed) for name in modules})
    return finished


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


def input_groups(linears: Mapping[str, nn.Linear], run: Callable[[], object]) -> dict[str, list[str]]:
    """Which Linears read one and the same input tensor: found by running them, so that no architecture is named.

    run: a forward pass through all of the Linears, on anything.
    """
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
        run()
    return {members[0]: members for _, members in seen}


@dataclass
class CurrentMask:
    """The current batch's mask (Batch.real_tokens), for hooks that outlive the batch."""

    value: Tensor | None = None


@contextmanager
def observed(
    groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear], statistics: list[Statistic], mask: CurrentMask
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
def weights_frozen(model: nn.Module) -> Iterator[None]:
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
