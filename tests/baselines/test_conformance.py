"""Every method of the registry on every architecture: a new one is covered by its line in the registry."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from baselines.registry import METHODS, build_method
from impact.calibration import STATISTICS, calibrate
from impact.checkpoint import load_model, save_model
from impact.compression import compress, parameter_count
from impact.export import export_model
from impact.factorisation import FactorisedLinear
from impact.interface import RankRule

pytestmark = pytest.mark.architectures
MIDDLE = RankRule("parameter_ratio", 0.5)


@dataclass
class Case:
    """A method, prepared on one model from nothing but the statistics that it names."""

    method: Any
    dense: Any
    statistics: dict[str, Any]
    components: dict[str, Any]
    sensitivity: Any

    def compressed(self, rule: RankRule = MIDDLE) -> Any:
        model = copy.deepcopy(self.dense)
        kept = self.method.allocate(rule, self.components, self.sensitivity)
        compress(model, self.method, self.components, kept, self.statistics)
        return model


@pytest.fixture(scope="module", params=METHODS)
def case(request: pytest.FixtureRequest, tiny_model: Any, batch: Any, full_rank: Any) -> Case:
    method = build_method(request.param, {})
    statistics: dict[str, Any] = {}
    if method.statistics():
        for modules in calibrate(tiny_model, [batch], method.statistics()).values():
            for name, tensors in modules.items():
                statistics.setdefault(name, {}).update(tensors)
    components = full_rank(method, tiny_model, statistics)
    model = copy.deepcopy(tiny_model)
    sensitivity = method.score(model, components, lambda m: float(outputs(m, batch).logsumexp(dim=-1).mean()))
    return Case(method, tiny_model, statistics, components, sensitivity)


def outputs(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.attention_mask.bool()]


def factorised(model: Any) -> dict[str, FactorisedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, FactorisedLinear)}


def test_statistics_are_known(case: Case) -> None:
    assert case.method.statistics() <= set(STATISTICS)


def test_name_is_the_registry_key(case: Case) -> None:
    assert METHODS[case.method.name] is type(case.method)


def test_units_cover_modules_once(case: Case) -> None:
    spanned = [name for unit in case.method.units(case.dense) for name in unit.modules]
    assert spanned
    assert len(spanned) == len(set(spanned))
    assert all(isinstance(case.dense.get_submodule(name), torch.nn.Linear) for name in spanned)
    assert set(case.components) == {unit.name for unit in case.method.units(case.dense)}


def test_spectra_are_finite_descending_and_not_negative(case: Case) -> None:
    for component in case.components.values():
        assert bool(component.spectrum.isfinite().all())
        assert bool((component.spectrum.diff() <= 1e-12).all())
        assert component.spectrum[-1] >= 0


def test_half_the_parameters_make_a_smaller_finite_model(case: Case, batch: Any) -> None:
    model = case.compressed()
    assert parameter_count(model) < 0.75 * parameter_count(case.dense)
    logits = outputs(model, batch)
    assert bool(logits.isfinite().all())
    assert not torch.allclose(logits, outputs(case.dense, batch))


def test_more_parameters_make_a_closer_model(case: Case, batch: Any) -> None:
    """Half a model strays further than nine tenths of one."""
    dense = outputs(case.dense, batch)
    half, most = (
        (outputs(case.compressed(RankRule("parameter_ratio", ratio)), batch) - dense).norm() for ratio in (0.3, 0.9)
    )
    assert most < half


def test_the_dense_model_is_not_touched(case: Case, batch: Any) -> None:
    state = {name: tensor.clone() for name, tensor in case.dense.state_dict().items()}
    model = case.compressed()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in case.dense.state_dict().items())


def test_training_does_not_reach_the_components(case: Case) -> None:
    before = copy.deepcopy(case.components)
    model = copy.deepcopy(case.dense)
    kept = case.method.allocate(MIDDLE, case.components, case.sensitivity)
    compress(model, case.method, case.components, kept, case.statistics)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    for name, component in case.components.items():
        assert all(torch.equal(tensor, before[name].tensors[key]) for key, tensor in component.tensors.items()), name


def test_two_runs_agree(case: Case, batch: Any, full_rank: Any) -> None:
    again = Case(
        case.method,
        case.dense,
        case.statistics,
        full_rank(case.method, case.dense, case.statistics),
        case.sensitivity,
    )
    assert torch.equal(outputs(case.compressed(), batch), outputs(again.compressed(), batch))


def test_ranks_are_nested(case: Case) -> None:
    models = [factorised(case.compressed(RankRule("parameter_ratio", ratio))) for ratio in (0.3, 0.4, 0.5, 0.7, 0.9)]
    grew = 0
    for small, large in pairwise(models):
        for name in small.keys() & large.keys():
            r = small[name].down.out_features
            assert torch.equal(small[name].down.weight, large[name].down.weight[:r])
            assert torch.equal(small[name].up.weight, large[name].up.weight[:, :r])
            grew += large[name].down.out_features > r
    assert grew or not any(models)


def test_a_rank_beyond_what_was_prepared_is_refused(case: Case) -> None:
    if not factorised(case.compressed()):
        pytest.skip("keeps index sets, not ranks")
    name, component = next(iter(case.components.items()))
    capped = copy.copy(component)
    capped.tensors = dict(component.tensors) | {
        key: component.tensors[key][index]
        for key, index in (("down", slice(4)), ("up", (slice(None), slice(4))), ("offset", slice(4)))
        if key in component.tensors
    }
    dense, read = [case.dense.get_submodule(name)], case.statistics.get(name, {})
    (whole,), (cut,) = (case.method.realise(dense, c, 4, read) for c in (component, capped))
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), cut.parameters(), strict=True))
    for rank in (5, 0, -1):
        with pytest.raises(ValueError, match="rank"):
            case.method.realise(dense, capped, rank, read)
    with pytest.raises(TypeError):
        case.method.realise(dense, capped, (0, 1), read)


def test_a_checkpoint_gives_equal_logits(case: Case, batch: Any, tmp_path: Path) -> None:
    model = case.compressed()
    save_model(model, tmp_path)
    assert torch.equal(outputs(load_model(tmp_path, torch.float64), batch), outputs(model, batch))


def test_an_exported_model_gives_equal_logits(case: Case, batch: Any, tmp_path: Path) -> None:
    model = case.compressed()
    export_model(model, None, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(outputs(loaded, batch), outputs(model, batch))


def test_gradients_flow_to_every_parameter(case: Case, batch: Any) -> None:
    model = case.compressed()
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # softmax is blind to a constant added to every key, so k_proj's bias may have none but rounding
        assert "k_proj" in name or bool((parameter.grad != 0).any()), name


def test_the_module_keeps_the_models_dtype(case: Case, build_model: Callable[..., Any]) -> None:
    model = copy.deepcopy(case.dense).to(torch.bfloat16)
    kept = case.method.allocate(MIDDLE, case.components, case.sensitivity)
    compress(model, case.method, case.components, kept, case.statistics)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_an_unknown_setting_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="no setting temperature"):
        build_method(case.method.name, {"temperature": 1})
