"""What a compressible model is, told from a checkpoint's files before a weight is read.

Messages are predicates of the checkpoint ("it holds ..."), so that a caller can name it as its user did.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
)
from transformers.initialization import no_init_weights

from impact.calibration import Batch
from impact.checkpoint import RANKS_FILE, WEIGHTS_FILE
from impact.export import ARCHITECTURES
from impact.modeling_impact import BASE, CheckpointError

ADAPTER_FILE = "adapter_config.json"
GENERATION_FILE = "generation_config.json"
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_FULL_PRECISION = ("F64", "F32", "F16", "BF16")
_SAMPLING = ("temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
_COMPUTED = re.compile(r"\.rotary_emb\.inv_freq$")  # stored by old versions of transformers, read by none


def check_described(directory: Path, compressible: bool) -> None:
    """The part of `check_checkpoint` that needs config.json alone, and no weights beside it."""
    if not (directory / "config.json").is_file():
        adapter = (directory / ADAPTER_FILE).is_file()
        raise CheckpointError("it is an adapter and no model: merge it into its own" if adapter else _no("config.json"))
    config = _read(directory / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise CheckpointError("its config.json names no model_type")
    if compressible and (kind.startswith("impact_") or (directory / RANKS_FILE).is_file()):
        raise CheckpointError("it is compressed already")
    if (directory / ADAPTER_FILE).is_file():
        raise CheckpointError(f"an adapter lies beside its weights ({ADAPTER_FILE}): merge it into them, or remove it")
    if (how := config.get("quantization_config", config.get("compression_config"))) is not None:
        how = how.get("quant_method", "in a way of its own") if isinstance(how, dict) else how
    # what was read from such a file and saved again holds full weights
    if how not in (None, "gguf"):
        raise CheckpointError(f"its weights are quantized ({how}): take the model that was quantized")
    if kind not in CONFIG_MAPPING and "auto_map" in config:
        raise CheckpointError(f"it is a '{kind}', which takes code that the checkpoint brings: such code is never run")
    if not compressible:
        return
    if experts := _experts(config):
        raise CheckpointError(
            f"it is a mixture of experts ({experts}): their weights are no Linears, and each expert sees a part of the "
            "tokens, for which no rank is defined here"
        )
    if kind not in ARCHITECTURES:
        raise CheckpointError(f"it is a '{kind}'; what can be compressed is {', '.join(ARCHITECTURES)}")


def check_checkpoint(directory: Path, compressible: bool) -> PretrainedConfig:
    """Raises CheckpointError, with one line, unless the directory's files make up a model that can be measured here.

    compressible: and compressed, and exported as an impact.modeling_impact model. Errors of transformers and tokenizers
    about a file of theirs are not caught. No code that a checkpoint brings is run. Returns its config.
    """
    check_described(directory, compressible)
    stored = _stored(directory)
    described = _read(directory / "config.json")
    for name in _LAYER_COUNTS:  # before anything is built that has as many
        layers = described.get(name)
        if isinstance(layers, int) and not 0 < layers <= len(stored):
            raise CheckpointError(f"its config.json speaks of {layers:,} layers, its weights are {len(stored)} tensors")
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    _check_weights(model, stored, compressible)
    if compressible:
        _check_generation(directory, config)
    _check_tokenizer(directory, len(model.get_input_embeddings().weight))
    return config


def check_activations(model: nn.Module, batch: Batch) -> None:
    """Raises CheckpointError that names the first Linear whose output on the batch overflows, from one forward pass."""
    overflown: list[str] = []

    def look(name: str, y: torch.Tensor) -> None:
        if not overflown and not torch.isfinite(y).all():
            overflown.append(name)

    handles = [
        module.register_forward_hook(lambda _, args, y, name=name: look(name, y))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            batch = batch.to(next(model.parameters()).device)
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if overflown:
        raise CheckpointError(
            f"its activations overflow: {overflown[0]} gives values that are infinite or no numbers on the first batch "
            "of calibration"
        )


def settle_generation(generation: GenerationConfig) -> str | None:
    """Mends sampling values without do_sample, which transformers loads and refuses to save; says what it changed.

    It advises do_sample=True, or none of the values: the former where nothing is said against sampling.
    """
    given = [name for name in _SAMPLING if getattr(generation, name, None) is not None]
    if generation.do_sample is True or not given or _unsaved(generation) is None:
        return None
    if generation.do_sample is None and generation.temperature != 0:
        generation.do_sample = True
        return f"{GENERATION_FILE} has {', '.join(given)} and no do_sample: written with do_sample true"
    for name in given:
        setattr(generation, name, None)
    return f"{GENERATION_FILE} has {', '.join(given)}, and decodes greedily: written without"


def _no(file: str) -> str:
    return f"it is no model: it holds no {file}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(f"its {path.name} is damaged: it is no JSON object")
    return content


def _experts(config: Mapping[str, Any]) -> str:
    """What in the config says that the model has experts; nothing where it has none."""
    kind = config["model_type"]
    if "moe" in kind or "mixtral" in kind:
        return str(kind)
    counts = (name for name, value in config.items() if "experts" in name and isinstance(value, int) and value > 1)
    return next(counts, "")


def _stored(directory: Path) -> dict[str, tuple[str, list[int]]]:
    """Name -> dtype and shape of every tensor, from the headers of the files that transformers would read."""
    names = [WEIGHTS_FILE]
    if not (directory / WEIGHTS_FILE).is_file():
        if not (directory / INDEX_FILE).is_file():
            raise CheckpointError("it holds no safetensors; pickled weights are not loaded")
        weight_map = _read(directory / INDEX_FILE).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"its {INDEX_FILE} is damaged: it names no files")
        names = sorted({str(name) for name in weight_map.values()})
    stored = {}
    for name in names:
        if not (directory / name).is_file():
            raise CheckpointError(f"it holds no {name}, which its index names")
        with safe_open(directory / name, framework="pt") as file:
            for tensor in file.keys():  # noqa: SIM118 - no mapping
                part = file.get_slice(tensor)
                stored[tensor.removeprefix(BASE)] = (part.get_dtype(), list(part.get_shape()))
    return stored


def _check_weights(model: nn.Module, stored: Mapping[str, tuple[str, list[int]]], compressible: bool) -> None:
    """Whether the tensors are those of the model, which is on the meta device; for one that is not to be compressed,
    those that have its names: transformers may have others for it."""
    asked = {name.removeprefix(BASE): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in asked.items():
        shape = list(tensor.shape)
        dtype, found = stored.get(name, ("F32", shape))
        if tensor.is_floating_point() and dtype not in _FULL_PRECISION:
            raise CheckpointError(f"its weights are quantized ({name} is {dtype}): take the model that was quantized")
        if found != shape:
            raise CheckpointError(f"its {name} has the shape {found}, and by its config.json {shape}")
    if not compressible:
        return
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()  # type: ignore[union-attr]
    if missing := sorted(asked.keys() - stored.keys() - tied):
        raise CheckpointError(f"it lacks weights that its config.json asks for: {missing[0]}")
    # a value head or the like is left out, and says nothing about the model
    left = sorted(name for name in stored.keys() - asked.keys() if name.startswith("layers."))
    if left := [name for name in left if not _COMPUTED.search(name)]:
        raise CheckpointError(f"it has weights that its config.json knows nothing of: {left[0]}")


def _check_generation(directory: Path, config: PretrainedConfig) -> None:
    """Whether transformers saves the generation settings again, once they are settled."""
    there = (directory / GENERATION_FILE).is_file()
    try:
        settings = GenerationConfig.from_pretrained(directory) if there else GenerationConfig.from_model_config(config)
    except (ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"its {GENERATION_FILE} can't be read: {shorten(str(error), 200)}") from error
    settle_generation(settings)
    if reason := _unsaved(settings):
        raise CheckpointError(f"transformers would not write its {GENERATION_FILE} again: {reason}")


def _unsaved(generation: GenerationConfig) -> str | None:
    """Why transformers would refuse to save it; None if it would not."""
    try:
        generation.validate(strict=True)
    except (ValueError, TypeError) as error:
        return shorten(str(error), 200)
    return None


def _check_tokenizer(directory: Path, rows: int) -> None:
    """Whether there is a tokenizer, whose tokens all have a row of the embedding."""
    files = sorted(path.name for pattern in _TOKENIZERS for path in directory.glob(pattern))
    if not files:
        raise CheckpointError("it holds no tokenizer (tokenizer.json, tokenizer.model, or vocab.json and merges.txt)")
    settings = directory / "tokenizer_config.json"
    brings_code = settings.is_file() and "auto_map" in _read(settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except ValueError as error:
        if brings_code and "trust_remote_code" in str(error):
            message = "its tokenizer takes code that the checkpoint brings: such code is never run"
            raise CheckpointError(message) from error
        if "tiktoken" in str(error):  # what transformers asks for last, where it can read none of the files
            raise CheckpointError(f"its tokenizer is damaged, or of no known form ({', '.join(files)})") from error
        raise
    # what stands for an image has no row in a model of text that shares its tokenizer with one that sees (Gemma 3)
    elsewhere = {getattr(tokenizer, f"{kind}_token", None) for kind in ("image", "audio", "video")}
    tokens = [item for item in tokenizer.get_vocab().items() if item[0] not in elsewhere]
    token, last = max(tokens, key=lambda item: item[1], default=("", -1))
    if last < 0:
        raise CheckpointError("its tokenizer has no tokens")
    if last >= rows:
        raise CheckpointError(
            f"its tokenizer has tokens beyond the {rows:,} rows of its embedding ({token!r} is {last:,}): remove them, "
            "or resize_token_embeddings and train the new rows"
        )
