"""Equation 5, theorem 5 and full rank: identities in float64 on the activations of real layers."""

import copy
from typing import Any

import pytest
import torch

from baselines.registry import METHODS, build_method
from impact.compression import compress, prepare_units
from impact.method import Impact
from impact.rank_rule import RankRule
from impact.ranks import nuclear_norm_rank
from impact.reconstruction import ActivationMoments, weighted_eigenbasis

ETAS = (0.0, 0.25, 0.5, 0.75)


def importance(raw: Any, eta: float) -> torch.Tensor:
    g2 = raw.g.square().mean(dim=0)
    return torch.sqrt((1 - eta) * g2 / g2.mean() + eta)


def weighted_covariance(raw: Any, a: torch.Tensor) -> torch.Tensor:
    centred = a * (raw.y - raw.y.mean(dim=0))
    return centred.T @ centred / len(centred)


def layer(model: Any, name: str, method: Any, component: Any, rank: int) -> Any:
    return method.realise([model.get_submodule(name)], component, rank, {})[0]


@pytest.mark.parametrize("eta", ETAS)
def test_equation_5_holds_on_every_layer(tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, eta: float) -> None:
    """a (y_hat - mu) = U U^T (a (y - mu)), with a, mu and U from raw activations and gradients."""
    method = Impact(eta=eta)
    for name, component in full_rank(method, tiny_model, gathered).items():
        r_y, a = raw[name].y, importance(raw[name], eta)
        mu = r_y.mean(dim=0)
        U = torch.linalg.eigh(weighted_covariance(raw[name], a))[1].flip(1)
        for rank in (1, 3, 8, len(component.spectrum)):
            y_hat = layer(tiny_model, name, method, component, rank)(raw[name].x)
            projected = (a * (r_y - mu)) @ U[:, :rank] @ U[:, :rank].T
            assert (a * (y_hat - mu) - projected).abs().max() < 1e-10, (name, rank)


@pytest.mark.parametrize("eta", (*ETAS, 1.0))
def test_weighted_error_is_the_sum_of_dropped_eigenvalues(
    tiny_model: Any, gathered: Any, raw: Any, full_rank: Any, eta: float
) -> None:
    method = Impact(eta=eta)
    for name, component in full_rank(method, tiny_model, gathered).items():
        a = importance(raw[name], eta)
        eigenvalues = torch.linalg.eigvalsh(weighted_covariance(raw[name], a)).flip(0)
        for rank in (1, 3, 7):
            y_hat = layer(tiny_model, name, method, component, rank)(raw[name].x)
            error = (a * (raw[name].y - y_hat)).square().sum(dim=1).mean()
            torch.testing.assert_close(error, eigenvalues[rank:].sum(), rtol=1e-10, atol=1e-12, msg=f"{name} {rank}")


def test_spectrum_is_the_root_of_the_eigenvalues(tiny_model: Any, gathered: Any, raw: Any, full_rank: Any) -> None:
    for name, component in full_rank(Impact(), tiny_model, gathered).items():
        eigenvalues = torch.linalg.eigvalsh(weighted_covariance(raw[name], importance(raw[name], 0.25))).flip(0)
        kept = len(component.spectrum)
        torch.testing.assert_close(component.spectrum**2, eigenvalues[:kept], rtol=1e-9, atol=1e-12)
        assert eigenvalues[kept:].abs().sum() < 1e-12, "what the reduced problem leaves out is exactly zero"


@pytest.mark.parametrize("method_name", METHODS)
def test_full_rank_is_the_dense_model(
    tiny_model: Any, gathered: Any, raw: Any, batch: Any, full_rank: Any, method_name: str
) -> None:
    method = build_method(method_name, {})
    components = full_rank(method, tiny_model, gathered)
    if any("down" not in c.tensors for c in components.values()):
        pytest.skip("not a factorisation")
    for name, component in components.items():
        y_hat = layer(tiny_model, name, method, component, len(component.spectrum))(raw[name].x)
        assert (y_hat - raw[name].y).abs().max() < 1e-10, name
    compressed = copy.deepcopy(tiny_model)
    compress(compressed, method, components, {n: len(c.spectrum) for n, c in components.items()}, gathered)
    real = batch.attention_mask.bool()
    with torch.no_grad():
        dense, low_rank = (
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[real]
            for model in (tiny_model, compressed)
        )
    assert (dense - low_rank).abs().max() < 1e-9


@pytest.mark.parametrize("kind", ["ordinary", "nearly dependent columns", "a column of zeros"])
@pytest.mark.parametrize("tokens", [400, 10])
@pytest.mark.parametrize(("m", "n"), [(70, 24), (24, 24), (20, 24), (9, 5)])
def test_the_small_eigenproblem_has_the_pairs_of_the_outputs(kind: str, tokens: int, m: int, n: int) -> None:
    """Against the eigenproblem as large as the output; also for weights and covariances without full rank."""
    generator = torch.Generator().manual_seed(0)
    W, x = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((m, n), (tokens, n)))
    if kind == "nearly dependent columns":
        W[:, 1] = W[:, 0] + 1e-9 * W[:, 1]
    elif kind == "a column of zeros":
        W[:, 1] = 0
    x, a = x * torch.logspace(0, -3, n, dtype=torch.float64), torch.rand(m, generator=generator).double() + 0.5
    moments = ActivationMoments(x.mean(dim=0), x.T.cov(correction=0), "input")
    Lambda, U = weighted_eigenbasis(W, moments, a)
    C = (W @ moments.covariance @ W.T) * torch.outer(a, a)
    tolerance = 1e-12 * float(Lambda[0])
    everything = torch.linalg.eigvalsh(C).flip(0)
    torch.testing.assert_close(Lambda, everything[: len(Lambda)], rtol=0, atol=tolerance)
    assert len(Lambda) == min(m, n) and (everything[len(Lambda) :].abs() < tolerance).all()
    torch.testing.assert_close(U.T @ U, torch.eye(len(Lambda), dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(C @ U, U * Lambda, rtol=0, atol=100 * tolerance)
    spectrum, leading = weighted_eigenbasis(W, moments, a, lambda found: len(found) // 2)
    assert torch.equal(spectrum, Lambda)
    torch.testing.assert_close(leading, U[:, : len(Lambda) // 2], rtol=0, atol=1e-10)


def test_components_reach_as_far_as_the_rules_ask(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    method, rules = Impact(), [RankRule("nuclear_norm", k) for k in (30, 70)]
    full = full_rank(method, tiny_model, gathered)
    for name, capped in prepare_units(method, tiny_model, gathered, rules):
        rank = nuclear_norm_rank(full[name].spectrum, 70)
        assert torch.equal(capped.spectrum, full[name].spectrum)
        assert capped.tensors["up"].shape[1] == len(capped.tensors["down"]) == len(capped.tensors["offset"]) == rank
        torch.testing.assert_close(capped.tensors["up"], full[name].tensors["up"][:, :rank], rtol=1e-9, atol=1e-12)
