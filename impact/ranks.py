"""How many components to keep."""

import torch
from torch import Tensor


def nuclear_norm_rank(spectrum: Tensor, k: float) -> int:
    """Smallest r whose leading values reach k percent of the spectrum's sum (Algorithm 1).

    spectrum: (d,) in descending order: singular values, or for IMPACT sqrt(Lambda_j), the standard deviation of the
    weighted activation along u_j. Scaling the spectrum changes nothing. Always at least 1.
    """
    total = torch.cumsum(spectrum.double(), dim=0)
    # The last cumulated value stands for the sum, so that k = 100 is reached exactly whatever the rounding; and k / 100
    # is no binary fraction, so an exact tie would be missed if it came first.
    reached = total * 100 >= total[-1] * k
    return int(torch.nonzero(reached)[0]) + 1


def parameter_ratio_rank(shape: tuple[int, int], ratio: float) -> int:
    """Largest r with r (m + n) <= ratio m n, at least 1 (ASVD, SVD-LLM). shape: (m, n)."""
    m, n = shape
    # A ratio such as 0.7 is not a binary fraction: without the nudge an exact product falls one short.
    return max(1, int(ratio * m * n / (m + n) + 1e-9))
