"""FLAP: what it removes, what it puts in its place, and which parts it chooses."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from baselines.flap import Flap, adaptive_search
from impact.architectures import ARCHITECTURES
from impact.checkpoint import RANKS_FILE, load_model, save_model
from impact.compression import compress, prepare_units
from impact.export import export_model
from impact.factorisation import FactorisedLinear
from impact.interface import RankRule
from impact.modeling_impact import CheckpointError
from impact.static_decoder import StaticDecoder

pytestmark = pytest.mark.architectures
WHOLE = "model.layers.1.self_attn.o_proj"


@pytest.fixture
def components(tiny_model: Any, gathered: Any, full_rank: Any) -> Any:
    return full_rank(Flap(), tiny_model, gathered)


@pytest.fixture
def kept(components: Any) -> Any:
    """Every other part, not the first one; one block stays whole, so that no two layers have as many heads."""
    parts = {name: component.shape[1] for name, component in components.items()}
    return {name: None if name == WHOLE else tuple(range(1, parts[name], 2)) for name in parts}


@pytest.fixture
def pruned(tiny_model: Any, components: Any, kept: Any) -> Any:
    model = copy.deepcopy(tiny_model)
    compress(model, Flap(), components, kept, {})
    return model


def channels(kept: tuple[int, ...], parts: int, width: int) -> list[bool]:
    """Which of the channels belong to the parts."""
    return [channel * parts // width in kept for channel in range(width)]


def removed_rows(model: Any, unit: Any, name: str, kept: tuple[int, ...]) -> torch.Tensor:
    """Which rows of a layer that writes the parts go: of q, k and v, or of gate and up, each for itself."""
    config, writer = model.config, model.get_submodule(name)
    head = model.model.layers[0].self_attn.head_dim
    q, k = (head * heads for heads in (config.num_attention_heads, config.num_key_value_heads))
    fused = {"qkv_proj": (q, k, k), "gate_up_proj": 2 * (config.intermediate_size,)}
    widths = fused.get(name.rpartition(".")[2], (writer.out_features,))
    assert sum(widths) == writer.out_features
    return ~torch.tensor([keep for width in widths for keep in channels(kept, unit.parts, width)])


def zeroed(model: Any, components: Any, kept: Any, raw: Any) -> Any:
    """A model of the dense shape: weights of what is removed are zero, and a bias has its mean contribution."""
    model = copy.deepcopy(model)
    for unit in Flap().units(model):
        if kept[unit.name] is None:
            continue
        reader, *writers = (model.get_submodule(name) for name in unit.modules)
        gone = ~torch.tensor(channels(kept[unit.name], unit.parts, reader.in_features))
        mean = raw[unit.name].x.mean(dim=0)
        reader.bias = nn.Parameter(sum(mean[c] * reader.weight.detach()[:, c] for c in gone.nonzero().flatten()))
        reader.weight.data[:, gone] = 0
        for writer, name in zip(writers, unit.modules[1:], strict=True):
            gone = removed_rows(model, unit, name, kept[unit.name])
            writer.weight.data[gone] = 0
            if writer.bias is not None:
                writer.bias.data[gone] = 0
    return model


def logits(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.attention_mask.bool()]


def test_removed_parts_are_zeroed_parts_with_compensation(
    tiny_model: Any, components: Any, kept: Any, pruned: Any, raw: Any, batch: Any
) -> None:
    """Block by block on the inputs of the dense model; of the whole model the norms alone are in single precision."""
    expected = zeroed(tiny_model, components, kept, raw)
    blocks = {unit.name.rpartition(".")[0] for unit in Flap().units(tiny_model)}
    calls: dict[str, Any] = {}
    dense = copy.deepcopy(tiny_model)
    for name in blocks:
        dense.get_submodule(name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: calls.update({name: (args, kwargs)}), with_kwargs=True
        )
    with torch.no_grad():
        dense(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        for name, (args, kwargs) in calls.items():
            out = [model.get_submodule(name)(*args, **kwargs) for model in (pruned, expected)]
            left, right = (y[0] if isinstance(y, tuple) else y for y in out)
            assert (left - right).abs().max() < 1e-12 * right.abs().max(), name
    assert set(calls) == blocks
    right = logits(expected, batch)
    assert (logits(pruned, batch) - right).abs().max() < 1e-6 * right.abs().max()
    assert (logits(tiny_model, batch) - right).abs().max() > 1e-2 * right.abs().max()


def test_a_unit_keeps_the_mean_of_its_output(components: Any, pruned: Any, kept: Any, raw: Any) -> None:
    for name, component in components.items():
        if kept[name] is not None:
            x = raw[name].x
            stay = torch.tensor(channels(kept[name], component.shape[1], x.shape[1]))
            y = pruned.get_submodule(name)(x[:, stay])
            torch.testing.assert_close(y.mean(dim=0), raw[name].y.mean(dim=0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("ratio", (0.35, 0.6, 0.85))
def test_the_share_of_weights_is_what_was_asked_for(tiny_model: Any, components: Any, ratio: float) -> None:
    model = copy.deepcopy(tiny_model)
    compress(model, Flap(), components, Flap().allocate(RankRule("parameter_ratio", ratio), components, None), {})

    def weights(model: Any) -> int:
        return sum(model.get_submodule(name).weight.numel() for unit in Flap().units(model) for name in unit.modules)

    part = max(component.shape[0] for component in components.values())
    assert weights(model) == pytest.approx(ratio * weights(tiny_model), abs=part)


def test_all_of_the_weights_are_the_dense_model(tiny_model: Any, components: Any, batch: Any) -> None:
    kept = Flap().allocate(RankRule("parameter_ratio", 1), components, None)
    model = copy.deepcopy(tiny_model)
    compress(model, Flap(), components, kept, {})
    assert model.state_dict().keys() == tiny_model.state_dict().keys()
    assert torch.equal(logits(model, batch), logits(tiny_model, batch))
    every = {name: tuple(range(component.shape[1])) for name, component in components.items()}
    compress(model, Flap(), components, every, {})
    torch.testing.assert_close(logits(model, batch), logits(tiny_model, batch), rtol=1e-6, atol=1e-6)


def test_scores_are_the_published_ones(tiny_model: Any, components: Any, raw: Any) -> None:
    """Weighted variance of each channel, squared for attention, standardised in its layer, averaged over a head."""
    for name, component in components.items():
        W, x, parts = tiny_model.get_submodule(name).weight.detach(), raw[name].x, component.shape[1]
        metric = []
        for j in range(x.shape[1]):
            deviations = x[:, j] - sum(x[:, j]) / len(x)
            fluctuation = sum(deviations**2) / len(x) * sum(W[:, j] ** 2)
            metric.append(fluctuation**2 if "o_proj" in name else fluctuation)
        standard = (torch.stack(metric) - torch.stack(metric).mean()) / torch.stack(metric).std()
        scores = torch.stack([part.mean() for part in standard.chunk(parts)])
        assert sorted(component.tensors["order"].tolist()) == list(range(parts))
        found = component.spectrum - component.spectrum.mean()
        torch.testing.assert_close(found, scores[component.tensors["order"]], rtol=1e-9, atol=1e-10, msg=name)


def test_a_part_weighs_what_its_removal_saves(tiny_model: Any, components: Any) -> None:
    config = tiny_model.config
    h, d_head = config.hidden_size, tiny_model.model.layers[0].self_attn.head_dim
    sharing = config.num_attention_heads // config.num_key_value_heads
    for name, component in components.items():
        head = (2 * sharing * d_head + 2 * d_head) * h, config.num_key_value_heads
        assert component.shape == (head if "o_proj" in name else (3 * h, config.intermediate_size))


def brute_force(spectra: list[list[float]], weights: list[int], ratio: float) -> list[int]:
    """Every prefix of all parts in the order of their scores, the best one of each unit ahead."""
    parts = []
    for unit, spectrum in enumerate(spectra):
        mean = sum(spectrum) / len(spectrum)
        parts += [(i > 0, -(value - mean) if i else 0, unit) for i, value in enumerate(spectrum)]
    parts.sort()
    sums = [sum(weights[unit] for *_, unit in parts[:count]) for count in range(len(parts) + 1)]
    closest = min(range(len(spectra), len(parts) + 1), key=lambda count: abs(sums[count] - ratio * sums[-1]))
    return [sum(unit == u for *_, u in parts[:closest]) for unit in range(len(spectra))]


@st.composite
def prepared(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    """Spectra of 1 to 4 units, of lengths that make their means exact, and what a part of each unit weighs."""
    lengths = draw(st.lists(st.sampled_from((1, 2, 4, 8, 16)), min_size=1, max_size=4))
    values = st.integers(0, 1000).map(float)
    spectra = [sorted(draw(st.lists(values, min_size=n, max_size=n)), reverse=True) for n in lengths]
    return spectra, [draw(st.integers(1, 200)) for _ in lengths]


@given(prepared(), st.floats(0.01, 1))
def test_the_adaptive_search_is_the_best_of_all_prefixes(given_units: Any, ratio: float) -> None:
    spectra, weights = given_units
    tensors = [torch.tensor(spectrum, dtype=torch.float64) for spectrum in spectra]
    counts = adaptive_search(tensors, weights, ratio)
    assert counts == brute_force(spectra, weights, ratio)
    assert all(count >= 1 for count in counts)


def test_kept_parts_are_nested(components: Any) -> None:
    def kept(ratio: float) -> dict[str, set[int]]:
        allocated = Flap().allocate(RankRule("parameter_ratio", ratio), components, None)
        return {name: set(range(components[name].shape[1])) if k is None else set(k) for name, k in allocated.items()}

    for small, large in ((0.3, 0.5), (0.5, 0.8), (0.8, 1.0)):
        fewer, more = kept(small), kept(large)
        assert all(fewer[name] <= more[name] for name in fewer)
        assert fewer != more


def test_a_checkpoint_comes_back_bit_for_bit(pruned: Any, kept: Any, batch: Any, tmp_path: Path) -> None:
    pruned.lm_head = FactorisedLinear(16, 3, 61, dtype=torch.float64)  # both kinds in one model
    save_model(pruned, tmp_path)
    layers = json.loads((tmp_path / RANKS_FILE).read_text())
    narrowed = {name for unit in Flap().units(pruned) if kept[unit.name] for name in unit.modules}
    assert set(layers["pruned"]) == narrowed
    assert layers["factorised"] == {"lm_head": 3}
    loaded = load_model(tmp_path, torch.float64)
    state = loaded.state_dict()
    assert state.keys() == pruned.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in pruned.state_dict().items())
    assert torch.equal(logits(loaded, batch), logits(pruned, batch))


@pytest.mark.parametrize(
    ("module", "entry"),
    (
        ("model.layers.0.mlp.down_proj", {"in_features": 3, "out_features": 16, "bias": True}),
        ("model.layers.0.mlp.down_proj", {"in_features": 20, "out_features": 16, "bias": False}),
        ("model.layers.0.mlp.down_proj", {"in_features": -1, "out_features": 16, "bias": True}),
        ("model.layers.0.mlp.down_proj", {"rank": 3}),
        ("model.layers.0.mlp.down_proj", 20),
        ("model.layers.7.mlp.down_proj", {"in_features": 3, "out_features": 16, "bias": True}),
        ("model.norm", {"in_features": 3, "out_features": 16, "bias": False}),
    ),
)
def test_widths_that_do_not_fit_are_refused(pruned: Any, tmp_path: Path, module: str, entry: Any) -> None:
    save_model(pruned, tmp_path)
    layers = json.loads((tmp_path / RANKS_FILE).read_text())
    layers["pruned"][module] = entry
    (tmp_path / RANKS_FILE).write_text(json.dumps(layers))
    with pytest.raises(ValueError, match="doesn't fit") as refused:
        load_model(tmp_path)
    assert "\n" not in str(refused.value)


@torch.no_grad()
@pytest.mark.parametrize("attention", ("eager", "sdpa"))
def test_a_pruned_model_decodes(pruned: Any, attention: str) -> None:
    """With the growing and with the static cache, as with none at all; every layer has its own number of heads."""
    heads, others = (pruned.model.layers[i].self_attn.o_proj.in_features for i in (0, 1))
    assert heads < others
    model = pruned.float()
    model.set_attn_implementation(attention)
    model.generation_config.eos_token_id = None
    prompts = torch.randint(0, 61, (3, 7), generator=torch.Generator().manual_seed(3))
    cached = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=8,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = model(input_ids=cached.sequences, use_cache=False).logits[:, 6:-1]
    torch.testing.assert_close(torch.stack(cached.logits, dim=1), logits, rtol=1e-4, atol=1e-4)
    if ARCHITECTURES[model.config.model_type].decoded:
        assert torch.equal(StaticDecoder(model, 3, 15).generate(prompts, 8), cached.sequences[:, 7:])
    else:
        with pytest.raises(ValueError, match="can't be decoded here"):
            StaticDecoder(model, 3, 15)


def test_what_has_no_place_in_a_checkpoint_says_so(pruned: Any, tmp_path: Path) -> None:
    pruned.lm_head = nn.Sequential(pruned.lm_head)
    with pytest.raises(CheckpointError, match="neither dense, factorised nor pruned") as refused:
        export_model(pruned, None, tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_a_keep_ratio_k_a_rank_and_other_models_are_refused(tiny_model: Any, components: Any) -> None:
    with pytest.raises(ValueError, match="parameter ratio"):
        Flap().allocate(RankRule("nuclear_norm", 50), components, None)
    with pytest.raises(TypeError, match="index set"):
        Flap().realise([tiny_model.get_submodule(WHOLE)], components[WHOLE], 3, {})
    with pytest.raises(ValueError, match="finds neither"):
        Flap().units(nn.Sequential(nn.Linear(2, 2)))


def test_inputs_that_never_change_are_refused(tiny_model: Any, gathered: Any) -> None:
    constant = {name: {key: 0 * tensor for key, tensor in tensors.items()} for name, tensors in gathered.items()}
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.o_proj: .* fluctuate alike"):
        list(prepare_units(Flap(), tiny_model, constant))
