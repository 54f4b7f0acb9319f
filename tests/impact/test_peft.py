"""PEFT's LoRA trains on a compressed checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from baselines.flap import Flap
from baselines.svd import Svd
from impact.compression import compress, prepare_units
from impact.export import export_model
from impact.registration import register

peft = pytest.importorskip("peft")


def prune(model: Any) -> None:
    """Leaves one head of keys, with its two of queries, and half of the neurons in the first layer."""
    random = torch.Generator().manual_seed(1)
    statistics = {
        unit.name: {
            f"channel_{moment}": torch.rand(model.get_submodule(unit.name).in_features, generator=random)
            for moment in ("mean", "variance")
        }
        for unit in Flap().units(model)
    }
    components = dict(prepare_units(Flap(), model, statistics))
    kept = {name: None if "layers.1" in name else tuple(range(0, c.shape[1], 2)) for name, c in components.items()}
    compress(model, Flap(), components, kept, {})


@pytest.fixture
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=61, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.4)
    if request.param == "pruned":
        prune(model)
    else:
        components = dict(prepare_units(Svd(), model, {}))
        # down_proj stays dense: LoRA meets both kinds
        compress(model, Svd(), components, {n: None if "down_proj" in n else 4 for n in components}, {})
    register()
    export_model(model, None, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("saved", "targets", "adapted"),
    (
        ("low-rank", ["q_proj.down", "q_proj.up"], {"q_proj.down", "q_proj.up"}),
        ("low-rank", "all-linear", {"q_proj.down", "q_proj.up", "down_proj"}),
        ("pruned", "all-linear", {"q_proj", "o_proj", "down_proj"}),
    ),
    indirect=["saved"],
)
def test_lora_trains_saves_and_merges(targets: Any, adapted: set[str], saved: Path, tmp_path: Path) -> None:
    ids = torch.randint(0, 61, (4, 12), generator=torch.Generator().manual_seed(1))
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float64)
    before = base(input_ids=ids).logits.detach()
    frozen = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    found = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    watched = {"q_proj.down", "q_proj.up", "q_proj", "o_proj", "down_proj"}
    assert {end for end in watched if any(name.endswith(f".{end}") for name in found)} == adapted

    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(30):
        loss = model(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]
    stored = {name.replace(".base_layer", ""): t for name, t in model.get_base_model().state_dict().items()}
    assert all(torch.equal(stored[name], tensor) for name, tensor in frozen.items())

    model.eval()
    after = model(input_ids=ids).logits.detach()
    assert not torch.allclose(after, before, atol=1e-3)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float64), tmp_path / "adapter"
    ).eval()
    assert torch.equal(again(input_ids=ids).logits, after)

    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float64)
    torch.testing.assert_close(reloaded(input_ids=ids).logits, after, atol=1e-10, rtol=1e-10)
