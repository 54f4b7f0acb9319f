"""Checkpoints of dense and compressed models: a Hugging Face directory, safetensors only, plus ranks and widths."""

import json
from pathlib import Path
from textwrap import shorten

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from impact.factorisation import FactorisedLinear
from impact.modeling_impact import CheckpointError, adopt_heads

RANKS_FILE = "compression.json"
WEIGHTS_FILE = "model.safetensors"


def save_model(model: nn.Module, directory: Path, state: dict[str, Tensor] | None = None) -> None:
    """Writes config.json, model.safetensors and, for a compressed model, compression.json: module -> rank, or its
    widths and whether it has a bias where these aren't what the config says."""
    ranks = {
        name: module.down.out_features for name, module in model.named_modules() if isinstance(module, FactorisedLinear)
    }
    with torch.device("meta"), no_init_weights():
        dense = AutoModelForCausalLM.from_config(model.config, trust_remote_code=False)
    layers = {kind: found for kind, found in (("factorised", ranks), ("pruned", pruned_layers(model, dense))) if found}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RANKS_FILE).unlink(missing_ok=True)
    if layers:
        (directory / RANKS_FILE).write_text(json.dumps(layers, indent=1))
    state = dict(state or model.state_dict())
    shared: dict[int, str] = {}
    for name in list(state):
        if shared.setdefault(state[name].data_ptr(), name) != name and state[name].numel():
            del state[name]  # a tied lm_head; from_pretrained and load_model tie it again
    save_file({k: v.contiguous() for k, v in state.items()}, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    model.config.save_pretrained(directory)  # type: ignore[operator, union-attr]


def load_model(directory: Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> PreTrainedModel:
    """Builds the model from config.json and compression.json, and loads its weights; in eval mode, on the CPU.

    Raises ValueError with one clear line if a file is missing, cut short, or does not fit the others.
    """
    directory = Path(directory)
    if not (directory / WEIGHTS_FILE).exists():
        raise ValueError(f"{directory} is no model checkpoint: it holds no {WEIGHTS_FILE}")
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        state = load_file(directory / WEIGHTS_FILE)
        ranks_file = directory / RANKS_FILE
        layers = json.loads(ranks_file.read_text()) if ranks_file.exists() else {}
    except Exception as error:  # safetensors, json and transformers each have their own errors for a damaged file
        raise ValueError(f"the checkpoint {directory} can't be read: {_one_line(error)}") from error
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, trust_remote_code=False)
    try:
        # on meta: load_state_dict assigns the weights
        for name, rank in layers.get("factorised", {}).items():
            dense = model.get_submodule(name)
            model.set_submodule(
                name, FactorisedLinear(dense.in_features, rank, dense.out_features, device="meta"), strict=True
            )
        for name, widths in layers.get("pruned", {}).items():
            model.set_submodule(name, nn.Linear(**widths, device="meta"), strict=True)
        adopt_heads(model)
        if config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    except (RuntimeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the checkpoint {directory} doesn't fit its config: {_one_line(error)}") from error
    model.tie_weights()
    return model.eval()


def check_finite(model: nn.Module) -> None:
    """Raises CheckpointError that names the first weight with an entry that is no number."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"its {name} holds values that are infinite or no numbers, in {kind}")


def pruned_layers(model: nn.Module, dense: nn.Module) -> dict[str, dict[str, int]]:
    """How nn.Linear is to be called for each Linear whose widths or bias are not those that it has in `dense`."""
    modules = dict(model.named_modules())
    pruned = {}
    for name, linear in dense.named_modules():
        own = modules.get(name)
        if isinstance(linear, nn.Linear) and isinstance(own, nn.Linear) and _arguments(own) != _arguments(linear):
            pruned[name] = _arguments(own)
    return pruned


def _arguments(linear: nn.Linear) -> dict[str, int]:
    return {"in_features": linear.in_features, "out_features": linear.out_features, "bias": linear.bias is not None}


def _one_line(error: Exception) -> str:
    return shorten(str(error), 300)
