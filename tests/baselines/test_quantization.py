"""What is stored in 8 and 4 bits, that it loads again, and what weight-only and the gauge change."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from baselines.flap import Flap
from baselines.quantization import LLM_INT8, NF4, WEIGHT_ONLY, load_quantized, save_quantized
from baselines.svd import Svd
from experiments.stages.models import is_quantized
from impact.checkpoint import load_model, save_model
from impact.compression import compress
from impact.factorisation import FactorisedLinear
from impact.gauge import balance

CPU = torch.device("cpu")


@pytest.fixture(params=("dense", "low-rank", "pruned"))
def model(request: pytest.FixtureRequest, tiny_model: Any, gathered: Any, full_rank: Any) -> Any:
    """A model of each kind, in float32."""
    made = copy.deepcopy(tiny_model)
    if request.param == "low-rank":
        components = full_rank(Svd(), tiny_model, gathered)
        compress(made, Svd(), components, dict.fromkeys(components, 8), gathered)
    elif request.param == "pruned":
        components = full_rank(Flap(), tiny_model, gathered)
        kept = {name: tuple(range(0, part.shape[1], 2)) for name, part in components.items()}
        compress(made, Flap(), components, kept, gathered)
    return made.float()


@pytest.fixture
def low_rank(tiny_model: Any, gathered: Any, full_rank: Any) -> Any:
    components = full_rank(Svd(), tiny_model, gathered)
    made = copy.deepcopy(tiny_model)
    compress(made, Svd(), components, dict.fromkeys(components, 8), gathered)
    return made


def logits(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.attention_mask.bool()]


def quantized(model: Any, directory: Path, scheme: str) -> Any:
    save_quantized(model, directory, scheme, torch.float32, CPU)
    return load_quantized(directory, torch.float32, "eager", CPU)


@pytest.mark.parametrize("scheme", (LLM_INT8, WEIGHT_ONLY, NF4))
def test_a_quantized_model_is_saved_and_loaded_again(scheme: str, model: Any, batch: Any, tmp_path: Path) -> None:
    before = logits(model, batch)
    once = quantized(model, tmp_path / "once", scheme)
    first = logits(once, batch)
    assert is_quantized(tmp_path / "once")
    assert torch.equal(first, logits(load_quantized(tmp_path / "once", torch.float32, "eager", CPU), batch))
    assert torch.equal(logits(model, batch), before)  # what was quantized is as it was
    assert 0 < (first - before).norm() < before.norm()
    assert not list((tmp_path / "once").glob("**/full"))


def test_no_pipeline_checkpoint_is_taken_for_a_quantized_one(model: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(model)
    model.config.quantization_config = {"quant_method": "gguf"}  # as a model read from such a file has it
    save_model(model, tmp_path / "pipeline")
    assert not is_quantized(tmp_path / "pipeline")
    read = load_model(tmp_path / "pipeline")
    assert quantized(read, tmp_path / "quantized", LLM_INT8).is_loaded_in_8bit


def test_every_linear_but_the_head_is_quantized(model: Any, tmp_path: Path) -> None:
    linears = {n for n, m in model.named_modules() if type(m) is nn.Linear and not n.startswith("lm_head")}
    stored = quantized(model, tmp_path / "model", LLM_INT8)
    assert {n for n, m in stored.named_modules() if m.__class__.__name__ == "Linear8bitLt"} == linears
    assert {p.dtype for n, p in stored.named_parameters() if n.startswith("lm_head")} == {torch.float32}


def test_weight_only_rounds_the_weights_and_nothing_else(model: Any, batch: Any, tmp_path: Path) -> None:
    """127 steps up to the largest absolute weight of an output channel; the rest is the plain model's arithmetic."""
    stored = quantized(model, tmp_path / "model", WEIGHT_ONLY)
    plain = copy.deepcopy(model)
    for name, linear in plain.named_modules():
        if type(linear) is nn.Linear and not name.startswith("lm_head"):
            step = linear.weight.abs().amax(dim=1, keepdim=True) / 127
            weight = stored.get_submodule(name).weight
            rounded = weight.data.float() * weight.SCB[:, None] / 127
            # a little over half a step: bitsandbytes scales in float16
            assert ((rounded - linear.weight).abs() <= 0.55 * step + 1e-12).all()
            linear.weight.data = rounded
    torch.testing.assert_close(logits(stored, batch), logits(plain, batch), rtol=1e-4, atol=1e-4)


def test_an_unknown_scheme_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no quantization 'int7'"):
        save_quantized(model, tmp_path, "int7", torch.float32, CPU)


def test_balancing_changes_no_output_and_evens_the_factors(low_rank: Any, batch: Any) -> None:
    before = logits(low_rank, batch)
    layers = [module for module in low_rank.modules() if isinstance(module, FactorisedLinear)]
    uneven = [float((m.down.weight.norm(dim=1) / m.up.weight.norm(dim=0)).log().abs().max()) for m in layers]
    assert max(uneven) > 0.1
    assert balance(low_rank) == len(layers)
    for module in layers:
        torch.testing.assert_close(module.down.weight.norm(dim=1), module.up.weight.norm(dim=0))
    assert (logits(low_rank, batch) - before).abs().max() < 1e-10


def test_a_component_of_zero_survives_balancing() -> None:
    layer = FactorisedLinear.from_factors(torch.eye(2, 3), torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.zeros(2))
    balance(nn.Sequential(layer))
    assert layer.up.weight.isfinite().all() and layer.down.weight.isfinite().all()
