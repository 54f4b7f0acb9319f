"""The transformation coefficient, the k rule and the parameter ratio rule."""

from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from impact.importance import transformation_coefficient
from impact.interface import RankRule
from impact.ranks import nuclear_norm_rank, parameter_ratio_rank

gradients = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
spectra = st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any).map(lambda v: sorted(v, reverse=True))
percents = st.integers(1, 100)


@given(gradients, st.floats(0, 1))
def test_mean_of_a_squared_is_one(squared_gradient: torch.Tensor, eta: float) -> None:
    a = transformation_coefficient(squared_gradient, eta)
    torch.testing.assert_close(a.square().mean(), torch.tensor(1.0, dtype=torch.float64), rtol=1e-4, atol=0)


@given(gradients, st.floats(0, 1))
def test_a_is_at_least_the_root_of_eta(squared_gradient: torch.Tensor, eta: float) -> None:
    """The figure of the paper has min M = .5 at eta = .5: eta stands inside the root."""
    assert transformation_coefficient(squared_gradient, eta).min() >= eta**0.5 * (1 - 1e-12)


@given(gradients)
def test_eta_1_ignores_the_gradient(squared_gradient: torch.Tensor) -> None:
    assert torch.equal(
        transformation_coefficient(squared_gradient, 1.0), torch.ones(len(squared_gradient), dtype=torch.float64)
    )


def test_eta_0_weights_by_the_gradient_alone() -> None:
    a = transformation_coefficient(torch.tensor([1.0, 4.0, 16.0]), 0.0)
    torch.testing.assert_close(a / a[0], torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))


def test_a_dead_row_keeps_a_finite_inverse() -> None:
    assert transformation_coefficient(torch.tensor([0.0, 1.0]), 0.0).min() >= 1e-3


@pytest.mark.parametrize("eta", (-0.01, 1.01, float("nan")))
def test_eta_outside_the_unit_interval_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match="eta"):
        transformation_coefficient(torch.ones(3), eta)


@pytest.mark.parametrize("eta", (0.0, 0.25, 1.0))
def test_a_zero_gradient_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match="zero"):
        transformation_coefficient(torch.zeros(3), eta)


@given(spectra, percents)
@example([1] * 100, 7)  # .07 * 100 > 7 in floating point
def test_k_rule_takes_the_smallest_rank_that_reaches_k(spectrum: list[int], k: int) -> None:
    sufficient = [r for r in range(1, len(spectrum) + 1) if 100 * sum(spectrum[:r]) >= k * sum(spectrum)]
    assert nuclear_norm_rank(torch.tensor(spectrum, dtype=torch.float64), k) == sufficient[0]


@given(spectra, percents, st.integers(-30, 30))
def test_k_rule_ignores_scale(spectrum: list[int], k: int, exponent: int) -> None:
    values = torch.tensor(spectrum, dtype=torch.float64)
    assert nuclear_norm_rank(values * 2.0**exponent, k) == nuclear_norm_rank(values, k)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=50))
def test_k_100_keeps_everything(spectrum: list[float]) -> None:
    assert nuclear_norm_rank(torch.tensor(sorted(spectrum, reverse=True)), 100) == len(spectrum)


@given(spectra, percents, percents)
def test_k_rule_is_monotone(spectrum: list[int], k: int, other: int) -> None:
    values = torch.tensor(spectrum, dtype=torch.float64)
    low, high = sorted((k, other))
    assert nuclear_norm_rank(values, low) <= nuclear_norm_rank(values, high)


@given(st.integers(1, 5000), st.integers(1, 5000), percents)
def test_parameter_ratio_rule_takes_the_largest_rank_that_fits(m: int, n: int, percent: int) -> None:
    rank, budget = parameter_ratio_rank((m, n), percent / 100), Fraction(percent, 100) * m * n
    assert (rank + 1) * (m + n) > budget
    assert rank * (m + n) <= budget or rank == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [("nuclear_norm", v) for v in (0, -1, 100.1, float("nan"))] + [("parameter_ratio", v) for v in (0, -0.1, 1.01)],
)
def test_a_rule_out_of_range_is_refused(kind: str, value: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        RankRule(kind, value)  # type: ignore[arg-type]
