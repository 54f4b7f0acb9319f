"""SVD, FWSVD, ASVD and AFM against their own definitions."""

from typing import Any

import pytest
import torch

from baselines.afm import Afm
from baselines.asvd import Asvd
from baselines.fwsvd import Fwsvd
from baselines.svd import Svd, singular_triplets
from impact.method import Impact

RANKS = (1, 3, 7)


def product(model: Any, method: Any, name: str, component: Any, rank: int) -> torch.Tensor:
    (layer,) = method.realise([model.get_submodule(name)], component, rank, {})
    return (layer.up.weight @ layer.down.weight).detach()


def left_weight(method: Any, raw: Any) -> torch.Tensor:
    """sqrt of the row Fisher, from weight gradients: (m, 1)."""
    return sum(G.square().sum(dim=1) for G in raw.weight_gradients).sqrt()[:, None]


def right_weight(method: Any, raw: Any) -> torch.Tensor:
    """(mean|x|)^alpha: (1, n)."""
    magnitude = sum(x.abs().mean(dim=0) for x in raw.x.split(raw.lengths)) / len(raw.lengths)
    return magnitude.pow(method.alpha)[None] + 1e-6


WEIGHTS: list[Any] = [
    pytest.param(Svd(), lambda method, raw: torch.tensor(1.0), id="svd"),
    pytest.param(Fwsvd(), left_weight, id="fwsvd"),
    pytest.param(Asvd(), right_weight, id="asvd"),
    pytest.param(Asvd(alpha=1.0), right_weight, id="asvd alpha 1"),
]


@pytest.mark.parametrize(("method", "weight"), WEIGHTS)
def test_truncation_error_is_the_dropped_weighted_singular_values(
    tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, method: Any, weight: Any
) -> None:
    """||D (W - W_r)||_F or ||(W - W_r) S||_F, which no rank-r matrix undercuts (Eckart-Young)."""
    for name, component in full_rank(method, tiny_model, gathered).items():
        W, D = tiny_model.get_submodule(name).weight.data, weight(method, raw[name])
        sigma = torch.linalg.svdvals(D * W)
        for rank in RANKS:
            error = (D * (W - product(tiny_model, method, name, component, rank))).norm()
            torch.testing.assert_close(error, sigma[rank:].norm(), rtol=1e-8, atol=1e-10, msg=f"{name} {rank}")


@pytest.mark.parametrize(("method", "weight"), WEIGHTS[1:])
def test_weighted_truncation_beats_the_plain_one_in_its_norm(
    tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, method: Any, weight: Any
) -> None:
    weighted, plain = full_rank(method, tiny_model, gathered), full_rank(Svd(), tiny_model, {})
    for name, component in weighted.items():
        W, D = tiny_model.get_submodule(name).weight.data, weight(method, raw[name])
        own, other = (W - product(tiny_model, m, name, c[name], 3) for m, c in ((method, weighted), (Svd(), plain)))
        assert component.shape == W.shape
        assert (D * own).norm() < (D * other).norm(), name
        assert own.norm() > other.norm(), name


@pytest.mark.parametrize(("method", "weight"), WEIGHTS)
def test_no_perturbation_of_the_factors_helps(
    tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, method: Any, weight: Any
) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, component in full_rank(method, tiny_model, gathered).items():
        W, D = tiny_model.get_submodule(name).weight.data, weight(method, raw[name])
        (layer,) = method.realise([tiny_model.get_submodule(name)], component, 3, {})
        up, down = layer.up.weight.data, layer.down.weight.data
        best = (D * (W - up @ down)).norm()
        for step in (1e-1, 1e-2, 1e-3):
            moved = [f + step * f.std() * torch.randn(f.shape, generator=generator).double() for f in (up, down)]
            assert (D * (W - moved[0] @ moved[1])).norm() >= best * (1 - 1e-12), name


@pytest.mark.parametrize(("method", "weight"), WEIGHTS)
def test_spectra_are_weighted_singular_values(
    tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, method: Any, weight: Any
) -> None:
    """Up to the scale, which no rank rule sees."""
    for name, component in full_rank(method, tiny_model, gathered).items():
        W = tiny_model.get_submodule(name).weight.data
        sigma = torch.linalg.svdvals(weight(method, raw[name]) * W)
        torch.testing.assert_close(component.spectrum / component.spectrum[0], sigma / sigma[0], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("method", (Svd(), Fwsvd(), Asvd()))
def test_the_bias_stays(tiny_model: Any, gathered: Any, full_rank: Any, method: Any) -> None:
    for name, component in full_rank(method, tiny_model, gathered).items():
        dense = tiny_model.get_submodule(name)
        (layer,) = method.realise([dense], component, 2, {})
        assert torch.equal(layer.up.bias, torch.zeros(len(dense.weight)) if dense.bias is None else dense.bias)


@pytest.mark.parametrize("shape", ((5, 5), (40, 7), (7, 40), (9, 7)))
def test_singular_triplets_are_a_thin_svd(shape: tuple[int, int]) -> None:
    M = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    U, S, Vh = singular_triplets(M)
    d = min(shape)
    torch.testing.assert_close(U * S @ Vh, M)
    torch.testing.assert_close(U.T @ U, torch.eye(d, dtype=torch.float64))
    torch.testing.assert_close(Vh @ Vh.T, torch.eye(d, dtype=torch.float64))
    assert bool((S.diff() <= 0).all())


def test_afm_is_pca_of_the_activations(tiny_model: Any, gathered: Any, raw: Any, full_rank: Any) -> None:
    """Its direct formulas: A = U^T W with bias U^T b, B = U with bias (I - U U^T) mu, U of Cov(y) from raw y."""
    method = Afm()
    for name, component in full_rank(method, tiny_model, gathered).items():
        dense = tiny_model.get_submodule(name)
        W, mu = dense.weight.data, raw[name].y.mean(dim=0)
        b = torch.zeros_like(mu) if dense.bias is None else dense.bias.data
        values, vectors = torch.linalg.eigh(torch.cov(raw[name].y.T, correction=0))
        for rank in RANKS:
            U = vectors.flip(1)[:, :rank]
            (layer,) = method.realise([dense], component, rank, {})
            torch.testing.assert_close(layer.up.weight.data @ layer.down.weight.data, U @ U.T @ W, rtol=0, atol=1e-9)
            torch.testing.assert_close(layer.up.bias.data, mu - U @ U.T @ mu + U @ U.T @ b, rtol=0, atol=1e-9)
        expected = values.flip(0)[: len(component.spectrum)].clamp(min=0).sqrt()
        torch.testing.assert_close(component.spectrum, expected, rtol=1e-8, atol=1e-7)


def test_impact_at_eta_1_is_afm(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    afm, impact = full_rank(Afm(), tiny_model, gathered), full_rank(Impact(eta=1.0), tiny_model, gathered)
    for name, component in afm.items():
        assert torch.equal(component.spectrum, impact[name].spectrum)
        for key, tensor in component.tensors.items():
            assert torch.equal(tensor, impact[name].tensors[key]), (name, key)


def test_impact_below_eta_1_is_not_afm(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    afm, impact = full_rank(Afm(), tiny_model, gathered), full_rank(Impact(eta=0.5), tiny_model, gathered)
    for name, component in afm.items():
        assert not torch.allclose(component.spectrum, impact[name].spectrum, rtol=1e-3)


def test_a_zero_fisher_is_refused_by_name(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    dead = gathered | {"lm_head": {"weight_fisher": torch.zeros(61)}}
    with pytest.raises(ValueError, match=r"lm_head.*zero"):
        full_rank(Fwsvd(), tiny_model, dead)
