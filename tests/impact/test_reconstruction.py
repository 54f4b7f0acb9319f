"""Equation 5, theorem 5 and full rank: identities in float64 on the activations of real layers."""

import copy
from typing import Any

import pytest
import torch

from baselines.registry import METHODS, build_method
from impact.compression import compress
from impact.method import Impact

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


def test_one_root_serves_all_layers_on_one_input_only(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    """Statistics that a caller loads a layer at a time, so that a freed tensor's id comes up again."""

    class Lazy(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            return {key: tensor.clone() for key, tensor in self[name].items()}

    method = Impact()
    shared, lazy = full_rank(method, tiny_model, gathered), full_rank(method, tiny_model, Lazy(gathered))
    for name in shared:
        torch.testing.assert_close(shared[name].spectrum, lazy[name].spectrum, rtol=1e-12, atol=0)
