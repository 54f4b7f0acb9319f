"""Importance of activation dimensions."""

from torch import Tensor

GRADIENT_FLOOR = 1e-6
"""Smallest E[g_i^2] relative to its mean: at eta = 0 a row whose gradient vanishes would make W2 = U / a explode."""


def transformation_coefficient(squared_gradient: Tensor, eta: float) -> Tensor:
    """a = sqrt((1 - eta) E[g^2] / mean_i E[g_i^2] + eta), equation 4 with eta inside the root as its proof A.2 has it.

    squared_gradient: (m,), E[(dl/dy)^2] over tokens, in any unit: a global factor cancels. Returns a (m,) in float64
    with mean(a^2) = 1 (but for the floor). Raises ValueError for eta outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta:g}")
    g2 = squared_gradient.double()
    mean = g2.mean()
    if mean == 0:
        raise ValueError("the gradient of a layer is zero on the whole calibration set: nothing to weight by")
    relative = (g2 / mean).clamp(min=GRADIENT_FLOOR)
    return ((1 - eta) * relative + eta).sqrt()
