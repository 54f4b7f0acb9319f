"""The one list of architectures is the one list: all else that names them follows from it."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from impact import export, modeling_impact, registration, vllm_plugin
from impact.architectures import ARCHITECTURES
from impact.decoding import DECODED_NAMES
from impact.modeling_impact import auto_map, classes, classes_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_each_entry_has_its_classes_and_its_exported_type(model_type: str) -> None:
    architecture = ARCHITECTURES[model_type]
    config, base, causal = classes(model_type)
    assert issubclass(config, PretrainedConfig) and issubclass(config, type(AutoConfig.for_model(model_type)))
    assert config.model_type == architecture.compressed_type
    assert type(AutoConfig.for_model(architecture.compressed_type)) is config
    assert issubclass(base, PreTrainedModel) and issubclass(causal, PreTrainedModel)
    assert base.config_class is causal.config_class is config
    assert base.is_base and not causal.is_base
    assert causal.__name__ == architecture.compressed_class
    assert classes_of(config) == (config, base, causal)
    # what config.json names is what a stranger finds in the file, always the same one
    for name, cls in zip(auto_map(config).values(), (config, base, causal), strict=True):
        assert getattr(modeling_impact, name.removeprefix("modeling_impact.")) is cls
        assert pickle.loads(pickle.dumps(cls)) is cls


def test_every_list_is_this_one() -> None:
    assert tuple(f"impact_{name}" for name in ARCHITECTURES) == registration.MODEL_TYPES
    assert tuple(classes(name)[2].__name__ for name in ARCHITECTURES) == vllm_plugin.ARCHITECTURES
    assert tuple(ARCHITECTURES) == export.ARCHITECTURES
    assert all((entry.name in DECODED_NAMES) == entry.decoded for entry in ARCHITECTURES.values())


@pytest.mark.parametrize("name", ("ImpactNothing", "LlamaForCausalLM", "Impact", "ImpactAutoModel", "__path__"))
def test_the_modeling_file_makes_up_no_other_names(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(modeling_impact, name)


def test_the_list_costs_no_torch() -> None:
    program = (
        "import sys, impact.architectures, impact.registration, impact.vllm_plugin; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_a_pruned_fused_block_follows_its_models_config_and_can_be_copied() -> None:
    """Its own number of heads alone is not the config's."""
    config, _, causal = classes("phi3")
    o, qkv = ({"in_features": n, "out_features": m, "bias": False} for n, m in ((8, 16), (16, 16)))
    names = ("model.layers.0.self_attn.o_proj", "model.layers.0.self_attn.qkv_proj")
    model = causal(
        config(
            vocab_size=9, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, pad_token_id=None, impact_pruned=dict(zip(names, (o, qkv), strict=True)),
        )
    )  # fmt: skip
    own, other = (layer.self_attn for layer in copy.deepcopy(model).model.layers)
    assert [block.config.num_attention_heads for block in (own, other)] == [2, 4]
    assert [block.num_key_value_heads for block in (own, other)] == [1, 2]
    copied = copy.deepcopy(model)
    copied.set_attn_implementation("eager")
    assert copied.model.layers[0].self_attn.config._attn_implementation == "eager"
    assert model.model.layers[0].self_attn.config._attn_implementation == "sdpa"
    with torch.no_grad():
        ids = torch.arange(6)[None] + 1
        torch.testing.assert_close(copied(ids).logits, model(ids).logits)
