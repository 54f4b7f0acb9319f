"""How much each truncation of each Linear would raise the perplexity, estimated from one forward and backward pass.

A truncation changes a Linear's output at position t by d_t, and the loss by about sum_t g_t d_t + 1/2 sum_t (g_t d_t)^2
with g_t = dL/dy_t: the first-order term, and the empirical Fisher's in the place of the curvature. In a trained model
the second one matters as much as the first. Truncations are nested, so that the terms g (up_i down_i x) of the
components i, accumulated, give every candidate rank at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from impact.calibration import accumulation_dtype
from impact.interface import Components


@runtime_checkable
class LossSource(Protocol):
    """A perplexity that also gives the losses behind it."""

    def losses(self, model: nn.Module) -> Iterable[tuple[Tensor, int]]:
        """Of each batch in turn, with its graph: the summed negative log-likelihood, and of how many tokens."""


@dataclass
class _Truncations:
    """The truncations of one Linear: factors in descending order, candidate ranks ascending, and what they change."""

    down: Tensor
    up: Tensor
    bias: Tensor | None
    ranks: Sequence[int]
    first: Tensor
    second: Tensor

    def add(self, x: Tensor, y: Tensor, g: Tensor) -> None:
        """One batch. x: (B, T, n) input, y: (B, T, m) output, g: (B, T, m) dL/dy, zero on padding."""
        dtype = self.down.dtype
        x, y, g = x.to(dtype), y.to(dtype), g.to(dtype)
        dense = (g * (y if self.bias is None else y - self.bias)).sum(dim=-1, keepdim=True)
        parts = (x @ self.down.T) * (g @ self.up)
        widths = [high - low for low, high in zip((0, *self.ranks), self.ranks, strict=False)]
        kept = torch.stack([part.sum(dim=-1) for part in parts.split(widths, dim=-1)], dim=-1).cumsum(dim=-1)
        change = (kept - dense).flatten(0, 1).double()
        self.first += change.sum(dim=0)
        self.second += change.square().sum(dim=0)


def loss_changes(
    model: nn.Module,
    components: Mapping[str, Components],
    ranks: Callable[[Components], Sequence[int]],
    losses: Callable[[nn.Module], Iterable[tuple[Tensor, int]]],
) -> tuple[float, dict[str, list[float]]]:
    """The dense model's loss a token, and for each Linear how much each of its ranks would change that.

    components: of Linears, by name, in factors down (R, n) and up (m, R). ranks: those that are asked about, ascending.
    Parameters are left without gradients. Memory beside the pass itself: the factors in float32.
    """
    truncations: dict[str, _Truncations] = {}
    start: list[Tensor] = []
    total, tokens = 0.0, 0

    def on_embedding(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        start[:] = [output if output.requires_grad else output.requires_grad_(True)]

    def on_output(name: str, x: Tensor, y: Tensor) -> None:
        x, out = x.detach(), y.detach()
        y.register_hook(lambda g: truncations[name].add(x, out, g))

    with ExitStack() as stack:
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        stack.callback(embedding.register_forward_hook(on_embedding).remove)
        for name, component in components.items():
            linear = model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            kept = ranks(component)
            dtype, device = accumulation_dtype(linear.weight.dtype), linear.weight.device
            truncations[name] = _Truncations(
                down=component.tensors["down"][: kept[-1]].to(device, dtype),
                up=component.tensors["up"][:, : kept[-1]].to(device, dtype),
                bias=None if linear.bias is None else linear.bias.detach().to(dtype),
                ranks=kept,
                first=torch.zeros(len(kept), dtype=torch.float64, device=device),
                second=torch.zeros(len(kept), dtype=torch.float64, device=device),
            )
            stack.callback(
                linear.register_forward_hook(lambda _, args, y, name=name: on_output(name, args[0], y)).remove
            )
        stack.enter_context(torch.enable_grad())
        for loss, count in losses(model):
            # only as far as the embedding's output: no weight gets a gradient, and every Linear is on the way
            torch.autograd.grad(loss, start)
            total, tokens = total + loss.item(), tokens + count
    if not tokens:
        raise ValueError("no token to measure the loss of")
    changes = {name: ((t.first + t.second / 2) / tokens).tolist() for name, t in truncations.items()}
    return total / tokens, changes
