"""Model sizes: the printed ones from configurations on the meta device, and what compression adds and removes."""

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from baselines.asvd import Asvd
from baselines.flap import Flap
from baselines.svd import Svd
from impact.compression import compress, parameter_count, untie_embeddings
from impact.interface import Components, RankRule

LLAMA_2 = {
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13B": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}


def llama_2(size: str) -> Any:
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(vocab_size=32000, tie_word_embeddings=False, **LLAMA_2[size]))


@pytest.mark.parametrize(("size", "parameters"), (("7B", 6_738_415_616), ("13B", 13_015_864_320)))
def test_dense_llama_2(size: str, parameters: int) -> None:
    assert parameter_count(llama_2(size)) == parameters


def truncated_by_asvd(size: str, target: float) -> Any:
    """ASVD's model at a target that only its smallest candidate meets, so that the search is uniform."""
    model, method = llama_2(size), Asvd(candidates=(target,))
    components = {}
    for unit in method.units(model):
        m, n = model.get_submodule(unit.name).weight.shape
        d = min(m, n)
        with torch.device("meta"):
            tensors = {"down": torch.empty(d, n), "up": torch.empty(m, d), "bias": torch.empty(m)}
        components[unit.name] = Components(torch.empty(d), tensors, (m, n))
    sensitivity = {name: {target: 10.0} for name in components}
    kept = method.allocate(RankRule("parameter_ratio", target), components, sensitivity)
    compress(model, method, components, kept, {})
    return model


@pytest.mark.parametrize(
    ("size", "target", "printed"),
    [
        ("7B", 0.6, 4.09),
        ("7B", 0.4, 2.77),
        ("7B", 0.2, 1.45),
        ("7B", 0.1, 0.79),
        ("13B", 0.6, 7.87),
        ("13B", 0.1, 1.45),
    ],
)
def test_asvd_sizes_are_those_of_tables_6_and_7(size: str, target: float, printed: float) -> None:
    """lm_head compressed, embedding not: to the 0.01 B of the print, without our bias on every Linear."""
    model = truncated_by_asvd(size, target)
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    assert (parameter_count(model) - biases) / 1e9 == pytest.approx(printed, abs=0.0051)
    assert biases / parameter_count(model) < 0.002


def test_a_tenth_of_7b_is_0_792_billion() -> None:
    assert parameter_count(truncated_by_asvd("7B", 0.1)) / 1e9 == pytest.approx(0.792, abs=0.0005)


def pruned_by_flap(size: str, ratio: float) -> Any:
    """FLAP's model at a ratio, with random importances."""
    model, method, generator = llama_2(size), Flap(), torch.Generator().manual_seed(0)
    components = {}
    for unit in method.units(model):
        reader = model.get_submodule(unit.name)
        weights = sum(model.get_submodule(name).weight.numel() for name in unit.modules)
        tensors = {
            "order": torch.randperm(unit.parts, generator=generator),
            "mean": torch.empty(reader.in_features, device="meta"),
        }
        spectrum = torch.rand(unit.parts, generator=generator).sort(descending=True).values
        components[unit.name] = Components(spectrum, tensors, (weights // unit.parts, unit.parts))
    kept = method.allocate(RankRule("parameter_ratio", ratio), components, None)
    compress(model, method, components, kept, {})
    return model


@pytest.mark.parametrize(
    ("size", "ratio", "billions"),
    [
        ("7B", 0.8, 5.44),
        ("7B", 0.7, 4.80),
        ("7B", 0.6, 4.15),
        ("7B", 0.5, 3.50),
        ("13B", 0.8, 10.48),
        ("13B", 0.7, 9.21),
        ("13B", 0.6, 7.94),
        ("13B", 0.5, 6.67),
    ],
)
def test_flap_keeps_a_share_of_the_decoders_weights(size: str, ratio: float, billions: float) -> None:
    """Real sizes; the paper prints the nominal ratio of all weights, 5.39 for 5.44."""
    assert parameter_count(pruned_by_flap(size, ratio)) / 1e9 == pytest.approx(billions, abs=0.0051)


def test_a_compressed_model_counts_its_factors_and_biases(tiny_model: Any, full_rank: Any) -> None:
    components = full_rank(Svd(), tiny_model, {})
    kept = {name: 2 + i % 4 for i, name in enumerate(components)}
    expected = parameter_count(tiny_model)
    for name, rank in kept.items():
        linear = tiny_model.get_submodule(name)
        m, n = linear.weight.shape
        expected += rank * (m + n) - m * n + (m if linear.bias is None else 0)
    model = copy.deepcopy(tiny_model)
    compress(model, Svd(), components, kept, {})
    assert parameter_count(model) == expected


def test_a_unit_kept_dense_is_untouched(tiny_model: Any, full_rank: Any) -> None:
    components = full_rank(Svd(), tiny_model, {})
    model = copy.deepcopy(tiny_model)
    compress(model, Svd(), components, dict.fromkeys(components), {})
    assert parameter_count(model) == parameter_count(tiny_model)


def test_untying_adds_one_embedding(build_model: Any) -> None:
    model = build_model("qwen2", tied=True)
    tied = parameter_count(model)
    assert untie_embeddings(model)
    assert parameter_count(model) == tied + model.lm_head.weight.numel()
    assert not untie_embeddings(model)
