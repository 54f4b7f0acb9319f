"""Algorithm 1 as printed: the oracle that the shared-moment pass is tested against, and its opponent in benchmarks.

One covariance of the output for each Linear, one eigenproblem as large as the output, nothing shared. Sequences come
one at a time, as in the paper's loop over samples.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from impact.calibration import Batch, accumulation_dtype, sequence_mean_loss


@dataclass
class NaiveMoments:
    """E[y y^T], E[y] and E[(dl/dy)^2] of one Linear, as sums until `n` tokens divide them."""

    second: Tensor
    mean: Tensor
    squared_gradient: Tensor

    def covariance(self) -> Tensor:
        """Cov(y) = E[y y^T] - E[y] E[y]^T, (m, m)."""
        return self.second - torch.outer(self.mean, self.mean)


def profile(
    model: nn.Module, batches: Iterable[Batch], skip: frozenset[str] = frozenset(), gradient: bool = True
) -> dict[str, NaiveMoments]:
    """Algorithm 1, stage 1: name of each Linear -> its moments. `skip` names Linears to leave out.

    Without `gradient` there is no backward pass, and E[(dl/dy)^2] stays zero: what AFM needs.
    """
    moments: dict[str, NaiveMoments] = {}
    mask: list[Tensor] = []
    tokens = 0

    def on_output(name: str, y: Tensor) -> None:
        dtype = accumulation_dtype(y.dtype)
        if name not in moments:
            zeros = torch.zeros(y.shape[-1], dtype=dtype, device=y.device)
            moments[name] = NaiveMoments(torch.outer(zeros, zeros), zeros.clone(), zeros.clone())
        real = y.detach()[mask[-1]].to(dtype)
        moments[name].second += real.T @ real
        moments[name].mean += real.sum(dim=0)

        def on_gradient(g: Tensor) -> None:
            moments[name].squared_gradient += g.to(dtype).square().sum(dim=(0, 1))

        if gradient:
            y.register_hook(on_gradient)

    with ExitStack() as stack, torch.set_grad_enabled(gradient):
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name not in skip:
                handle = module.register_forward_hook(lambda _, args, y, name=name: on_output(name, y))
                stack.callback(handle.remove)
        for batch in batches:
            for i in range(len(batch.input_ids)):
                one = Batch(*(t[i : i + 1] for t in (batch.input_ids, batch.attention_mask, batch.labels)))
                mask.append(one.attention_mask.bool())
                logits = model(input_ids=one.input_ids, attention_mask=one.attention_mask, use_cache=False).logits
                if gradient:
                    sequence_mean_loss(logits, one.labels).backward()
                tokens += int(mask[-1].sum())
    model.zero_grad(set_to_none=True)
    for moment in moments.values():
        for total in (moment.second, moment.mean, moment.squared_gradient):
            total /= tokens
    return moments


def compress_linear(
    W: Tensor, b: Tensor, moments: NaiveMoments, k: float, eta: float
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Algorithm 1, stage 2, for one Linear: W1 (r, n), W2 (m, r), b' (m,) and r.

    Written from the equations alone, so that it shares no formula with the code that it checks; only rounding below
    zero is clipped, or the square root of the k rule would be undefined.
    """
    g2 = moments.squared_gradient
    a = torch.sqrt((1 - eta) * g2 / g2.mean() + eta)
    M = a[:, None] * a[None, :]
    Lambda, U = torch.linalg.eigh(moments.covariance() * M)
    order = torch.argsort(Lambda, descending=True)
    Lambda, U = Lambda[order].clamp(min=0), U[:, order]
    share = torch.cumsum(Lambda.sqrt(), 0) / Lambda.sqrt().sum()
    r = int((share < k / 100).sum()) + 1
    U = U[:, : min(r, len(Lambda))]
    ones = torch.ones(U.shape[1], dtype=U.dtype)
    W1 = (U * torch.outer(a, ones)).T @ W
    W2 = U / torch.outer(a, ones)
    bias = moments.mean + ((U @ U.T) * torch.outer(1 / a, a)) @ (b - moments.mean)
    return W1, W2, bias, U.shape[1]
