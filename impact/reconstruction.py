"""Importance-weighted activation reconstruction: equations 8-13 and theorem 5."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ActivationMoments:
    """Mean and covariance of a layer's activation y = W x + b, kept on the side where they are smaller.

    mean, covariance: of x, (n,) and (n, n), if side is "input"; of y, (m,) and (m, m), if it is "output".
    """

    mean: Tensor
    covariance: Tensor
    side: str

    def activation_mean(self, W: Tensor, b: Tensor) -> Tensor:
        """mu = E[y], (m,)."""
        return W @ self.mean.double() + b if self.side == "input" else self.mean.double()


def weighted_eigenbasis(
    W: Tensor, moments: ActivationMoments, a: Tensor, cache: MutableMapping[int, Any]
) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of C = Cov(y) * (a a^T) in descending order (equations 10, 12, 13).

    W: (m, n), a: (m,). Returns Lambda (d,) and U (m, d) with d = min(m, n) on the input side: the other m - n
    eigenvalues of a wide layer are exactly zero, and left to rounding they would enter the k rule through a square
    root. There the n x n problem K = B^T B with B = D_a W Sigma^(1/2) gives the same pairs. All in float64.
    """
    if moments.side == "output":
        return _descending_eigh(a[:, None] * moments.covariance.double() * a)
    key = id(moments.covariance)
    if key not in cache:
        cache.clear()  # units that share an input are neighbours, and one root of a 7B model is 134 MB
        Lambda_x, Q = _descending_eigh(moments.covariance.double())
        # the covariance is kept as well: its id belongs to it only while it lives
        cache[key] = moments.covariance, Q * Lambda_x.sqrt()
    _, root = cache[key]
    B = (a[:, None] * W) @ root
    if W.shape[0] <= W.shape[1]:
        return _descending_eigh(B @ B.T)
    Lambda, V = _descending_eigh(B.T @ B)
    # Directions under the noise of K have no eigenvector worth the name: their share of C is zero.
    noise = Lambda[0] * len(Lambda) * torch.finfo(torch.float64).eps
    Lambda = torch.where(Lambda > noise, Lambda, 0)
    return Lambda, (B @ V) * Lambda.clamp(min=noise).rsqrt() * (Lambda > 0)


def reconstruction_factors(W: Tensor, b: Tensor, mu: Tensor, a: Tensor, U: Tensor) -> dict[str, Tensor]:
    """W1, W2 and b' of theorem 5 for the basis U (m, r), nested in r.

    down = W1 = (U * a 1^T)^T W, up = W2 = U / (a 1^T), and b' = mu + diag(1/a) U U^T diag(a) (b - mu) kept as
    bias = mu and offset = U^T diag(a) (b - mu), so that b' = bias + up_r offset_r for every r.
    """
    weighted = U * a[:, None]
    return {"down": weighted.T @ W, "up": U / a[:, None], "bias": mu, "offset": weighted.T @ (b - mu)}


def _descending_eigh(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of a positive semidefinite matrix, descending; rounding below zero is clipped."""
    values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0).clamp(min=0), vectors.flip(1)
