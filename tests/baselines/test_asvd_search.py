"""ASVD's sensitivity search."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.asvd import Asvd, search_ratios
from impact.interface import RankRule

CANDIDATES = (0.2, 0.5, 0.8)
TARGETS = st.floats(0.2, 1.0)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, dict[float, float]], dict[str, int]]:
    """Distinct perplexities of 1 to 4 layers, and the layers' sizes."""
    layers = [f"layer{i}" for i in range(draw(st.integers(1, 4)))]
    perplexities = draw(
        st.lists(st.integers(1, 10_000), min_size=3 * len(layers), max_size=3 * len(layers), unique=True)
    )
    values = iter(perplexities)
    return (
        {name: {ratio: float(next(values)) for ratio in CANDIDATES} for name in layers},
        {name: draw(st.integers(1, 50)) for name in layers},
    )


def cut_at(sensitivity: dict[str, dict[float, float]], harmless: int) -> dict[str, float]:
    """Only the `harmless` least harmful truncations are allowed; each layer takes its smallest allowed ratio."""
    allowed = sorted((ppl, name, ratio) for name, row in sensitivity.items() for ratio, ppl in row.items())[:harmless]
    return {name: min([r for _, layer, r in allowed if layer == name], default=1.0) for name in sensitivity}


def kept_share(ratios: dict[str, float], weights: dict[str, int]) -> float:
    return sum(ratios[name] * weights[name] for name in weights) / sum(weights.values())


@given(tables(), TARGETS)
def test_the_fewest_truncations_that_meet_the_target(table: Any, target: float) -> None:
    sensitivity, weights = table
    total = 3 * len(sensitivity)
    meeting = [c for c in range(total + 1) if kept_share(cut_at(sensitivity, c), weights) <= target + 1e-9]
    assert search_ratios(sensitivity, weights, target) == cut_at(sensitivity, meeting[0])


@given(tables())
def test_uniform_at_the_smallest_candidate(table: Any) -> None:
    sensitivity, weights = table
    assert set(search_ratios(sensitivity, weights, min(CANDIDATES)).values()) == {min(CANDIDATES)}


@given(tables())
def test_dense_where_nothing_need_go(table: Any) -> None:
    assert set(search_ratios(*table, 1.0).values()) == {1.0}


@given(tables(), st.floats(0.01, 0.19))
def test_a_target_below_the_smallest_candidate_is_refused(table: Any, target: float) -> None:
    with pytest.raises(ValueError, match="out of reach"):
        search_ratios(*table, target)


@given(tables(), TARGETS, st.integers(0, 2**12 - 1))
def test_nan_and_infinity_are_the_most_harmful(table: Any, target: float, where: int) -> None:
    """The same choice as with huge finite perplexities in their place, in the order of ties: ratio, then name."""
    sensitivity, weights = table
    flat = [(name, ratio) for name, row in sensitivity.items() for ratio in row]
    broken = {pair for i, pair in enumerate(flat) if where >> i & 1}
    order = {pair: i for i, pair in enumerate(sorted(broken, key=lambda pair: (pair[1], pair[0])))}

    def replaced(value: Callable[[tuple[str, float]], float]) -> dict[str, dict[float, float]]:
        return {
            n: {r: value((n, r)) if (n, r) in broken else ppl for r, ppl in row.items()}
            for n, row in sensitivity.items()
        }

    huge = replaced(lambda pair: 1e9 - order[pair])
    for worst in (math.nan, math.inf):
        assert search_ratios(replaced(lambda _, w=worst: w), weights, target) == search_ratios(huge, weights, target)


def test_a_harmless_layer_is_truncated_first() -> None:
    sensitivity = {"fragile": {0.2: 90.0, 0.5: 80.0, 0.8: 70.0}, "robust": {0.2: 3.0, 0.5: 2.0, 0.8: 1.0}}
    assert search_ratios(sensitivity, {"fragile": 1, "robust": 1}, 0.6) == {"fragile": 1.0, "robust": 0.2}


@pytest.mark.parametrize("candidates", ((), (0.5, 0.2), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)))
def test_candidates_must_ascend_inside_the_unit_interval(candidates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="candidates"):
        Asvd(candidates=candidates)


def test_an_unknown_sensitivity_is_refused() -> None:
    with pytest.raises(ValueError, match="exact, gradient"):
        Asvd(sensitivity="guess")  # type: ignore[arg-type]


def test_the_k_rule_and_a_missing_search_are_refused(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    components = full_rank(Asvd(), tiny_model, gathered)
    for rule, sensitivity in ((RankRule("nuclear_norm", 50), {}), (RankRule("parameter_ratio", 0.5), None)):
        with pytest.raises(ValueError, match="sensitivities"):
            Asvd().allocate(rule, components, sensitivity)


def loss(batch: Any) -> Callable[[Any], float]:
    def evaluate(model: Any) -> float:
        with torch.no_grad():
            out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
        return math.exp(out.loss)

    return evaluate


def test_score_truncates_one_layer_at_a_time_and_puts_it_back(
    tiny_model: Any, gathered: Any, batch: Any, full_rank: Any
) -> None:
    method = Asvd(candidates=CANDIDATES)
    components = full_rank(method, tiny_model, gathered)
    before = dict(tiny_model.named_modules())
    perplexity, truncated = loss(batch), []

    def watched(model: Any) -> float:
        changed = {name for name, module in before.items() if module is not dict(model.named_modules()).get(name)}
        truncated.append(changed)
        return perplexity(model)

    dense = perplexity(tiny_model)
    sensitivity = method.score(tiny_model, components, watched)
    assert [names for names in truncated if names] == [{name} for name in components for _ in CANDIDATES]
    assert dict(tiny_model.named_modules()) == before
    assert perplexity(tiny_model) == dense
    assert all(set(row) == set(CANDIDATES) for row in sensitivity.values())
    assert len({ppl for row in sensitivity.values() for ppl in row.values()}) > 30
    # one dense run to trace the model, then one for each of the two blocks and for lm_head
    assert truncated.count(set()) == 4


def test_score_puts_the_layer_back_after_a_failure(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    def fails(model: Any) -> float:
        raise MemoryError

    before = dict(tiny_model.named_modules())
    with pytest.raises(MemoryError):
        Asvd().score(tiny_model, full_rank(Asvd(), tiny_model, gathered), fails)
    assert dict(tiny_model.named_modules()) == before
