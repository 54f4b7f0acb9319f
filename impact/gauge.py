"""The gauge of factors: (down, up) -> (D down, up D^-1) leaves the product, and changes what rounding it costs."""

import torch
from torch import Tensor, nn

from impact.factorisation import FactorisedLinear


def balanced(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The factors with D diagonal such that row j of down and column j of up have equal norms.

    down: (r, n), up: (m, r); their product, (m, n), stays. The paper's gauge leaves the whole spectrum in down and
    columns of like norm in up (equation 12). A component that is zero on either side stays as it is.
    """
    row, column = down.double().norm(dim=1), up.double().norm(dim=0)
    D = torch.where((row > 0) & (column > 0), (column / row).sqrt(), torch.ones_like(row))
    return (D[:, None] * down).to(down.dtype), (up / D).to(up.dtype)


@torch.no_grad()
def balance(model: nn.Module) -> int:
    """Balances every factorised layer in place; returns how many there are."""
    layers = [module for module in model.modules() if isinstance(module, FactorisedLinear)]
    for layer in layers:
        down, up = balanced(layer.down.weight, layer.up.weight)
        layer.down.weight.copy_(down)
        layer.up.weight.copy_(up)
    return len(layers)
