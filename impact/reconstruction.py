"""Importance-weighted activation reconstruction: equations 8-13 and theorem 5."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

CHOLESKY_QR_LIMIT = 1e-4
"""Smallest ratio of R's diagonal at which Q R comes from a Cholesky root: Q loses orthogonality by its square."""


@dataclass(frozen=True)
class ActivationMoments:
    """Mean and covariance of a layer's activation y = W x + b, kept on the side where they are smaller, on any device.

    mean, covariance: of x, (n,) and (n, n), if side is "input"; of y, (m,) and (m, m), if it is "output".
    """

    mean: Tensor
    covariance: Tensor
    side: str

    def activation_mean(self, W: Tensor, b: Tensor) -> Tensor:
        """mu = E[y], (m,)."""
        mean = self.mean.to(W.device, torch.float64)
        return W @ mean + b if self.side == "input" else mean


def weighted_eigenbasis(
    W: Tensor, moments: ActivationMoments, a: Tensor, rank_of: Callable[[Tensor], int] = len
) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of C = Cov(y) * (a a^T) in descending order (equations 10, 12, 13).

    W: (m, n), a: (m,). Returns Lambda (d,) and U (m, r), the r = rank_of(Lambda) leading eigenvectors, with d =
    min(m, n) on the input side: the other m - n eigenvalues of a wide layer are exactly zero, and left to rounding they
    would enter the k rule through a square root. All in float64.
    """
    covariance = moments.covariance.to(W.device, torch.float64)
    if moments.side == "output":
        C = a[:, None] * covariance * a
    else:
        A, Sigma = a[:, None] * W, covariance
        if W.shape[0] > W.shape[1]:
            return _tall_eigenbasis(A, Sigma, rank_of)
        C = A @ Sigma @ A.T
    Lambda, U = _descending_eigh(C)
    return Lambda, U[:, : rank_of(Lambda)]


def _tall_eigenbasis(A: Tensor, Sigma: Tensor, rank_of: Callable[[Tensor], int]) -> tuple[Tensor, Tensor]:
    """Eigenpairs of C = A Sigma A^T for A = D_a W (m, n) with m > n, from a problem of n x n.

    With A = Q R they are the eigenvalues of K = R Sigma R^T, and Q times its eigenvectors V. R comes from the Cholesky
    factor of A^T A and Q V as A (R^-1 V), which costs less than a QR decomposition and is as good where A's columns are
    far from dependent.
    """
    n = A.shape[1]
    ends = [n * i // 8 for i in range(9)]
    # a block at a time, little more than the half is computed of a product that is symmetric or has a triangular factor
    blocks = [slice(start, stop) for start, stop in pairwise(ends)]
    squared, right, K = (A.new_zeros(n, n) for _ in range(3))
    for block in blocks:
        squared[block, : block.stop] = A[:, block].T @ A[:, : block.stop]
    root, failed = torch.linalg.cholesky_ex(squared)
    diagonal = root.diagonal()
    if failed or diagonal.min() < CHOLESKY_QR_LIMIT * diagonal.max():
        Q, R = torch.linalg.qr(A)
        Lambda, V = _descending_eigh(R @ Sigma @ R.T)
        return Lambda, Q @ V[:, : rank_of(Lambda)]
    R = root.T
    for block in blocks:
        right[:, block] = Sigma[:, block.start :] @ root[block.start :, block]
    for block in blocks:
        K[block, : block.stop] = R[block, block.start :] @ right[block.start :, : block.stop]
    Lambda, V = _descending_eigh(K)
    return Lambda, A @ torch.linalg.solve_triangular(R, V[:, : rank_of(Lambda)], upper=True)


def reconstruction_factors(W: Tensor, b: Tensor, mu: Tensor, a: Tensor, U: Tensor) -> dict[str, Tensor]:
    """W1, W2 and b' of theorem 5 for the basis U (m, r), nested in r.

    down = W1 = (U * a 1^T)^T W, up = W2 = U / (a 1^T), and b' = mu + diag(1/a) U U^T diag(a) (b - mu) kept as
    bias = mu and offset = U^T diag(a) (b - mu), so that b' = bias + up_r offset_r for every r.
    """
    weighted = U * a[:, None]
    return {"down": weighted.T @ W, "up": U / a[:, None], "bias": mu, "offset": weighted.T @ (b - mu)}


def _descending_eigh(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of a positive semidefinite matrix, of which the lower triangle is read, descending.

    Rounding below zero is clipped.
    """
    values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0).clamp(min=0), vectors.flip(1)
