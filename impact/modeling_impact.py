"""Compressed Llama, Mistral and Qwen2 models as transformers knows models.

A Linear is replaced by `down` and `up`, y = up(down(x)), of the rank that config.impact_ranks gives its name; layers
without an entry are dense. This file is copied into every checkpoint and must go on importing torch and transformers
alone: with trust_remote_code it is all that a process knows of this project.
"""

import json
import os
import shutil
import struct
from functools import cache
from glob import escape, glob
from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    MistralModel,
    PretrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

BASE = "model."
"""Prefix that a causal model's checkpoint gives the tensors of its base model."""

_HEAD = [r"^lm_head\."]
_PICKLED = ("pytorch_model*.bin", "model*.bin", "*.pth", "model*.pt", "*.pkl", "*.ckpt")


class CheckpointError(ValueError):
    """A checkpoint is damaged, or its parts don't fit each other; the message is one line."""


class FactorisedLinear(nn.Module):
    """y = up(down(x)). down: (r, n), no bias. up: (m, r), with bias.

    It has no in_features/out_features on purpose: libraries that look for them would take it for one matrix.
    """

    def __init__(self, in_features: int, rank: int, out_features: int, **factory: Any) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False, **factory)
        self.up = nn.Linear(rank, out_features, bias=True, **factory)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x))


class ImpactLlamaConfig(LlamaConfig):
    """impact_ranks: name of a Linear in the causal model -> its rank. impact_recipe: how the ranks came about."""

    model_type = "impact_llama"
    base_model_tp_plan = None  # the dense plan would shard the wrong tensors
    impact_ranks: dict | None = None
    impact_recipe: dict | None = None


class ImpactMistralConfig(MistralConfig):
    """As ImpactLlamaConfig."""

    model_type = "impact_mistral"
    base_model_tp_plan = None
    impact_ranks: dict | None = None
    impact_recipe: dict | None = None


class ImpactQwen2Config(Qwen2Config):
    """As ImpactLlamaConfig."""

    model_type = "impact_qwen2"
    base_model_tp_plan = None
    impact_ranks: dict | None = None
    impact_recipe: dict | None = None


class FactorisedModel:
    """What a transformers model class needs on top to be built, loaded and saved with factorised layers.

    is_base: the model without lm_head, whose tensors have no `model.` before their names.
    """

    _tp_plan = None
    is_base = False

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        _factorise(self, config)  # type: ignore[arg-type]
        self.post_init()  # type: ignore[attr-defined]  # once more, for the new layers
        if config._attn_implementation == "vllm":
            _fit_to_vllm(self, config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers' own, but whatever doesn't fit is refused instead of drawn at random.

        Raises CheckpointError for pickled weights, a damaged file, and tensors that are missing, left over or of
        another shape than config.json says.
        """
        where = pretrained_model_name_or_path
        if kwargs.get("use_safetensors") is False:
            raise CheckpointError(f"{where}: only safetensors are loaded, pickled weights can run code")
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs |= {"use_safetensors": True, "ignore_mismatched_sizes": True}
        directory = os.path.normpath(os.path.join(str(where), kwargs.get("subfolder") or ""))
        if where is not None and os.path.isfile(os.path.join(directory, "config.json")):
            config = kwargs.get("config")
            if not isinstance(config, PretrainedConfig):
                config = cls.config_class.from_pretrained(directory)  # type: ignore[attr-defined]
            check_directory(cls, config, directory, kwargs.get("variant"))
        model, info = super().from_pretrained(where, *args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        # A name on the hub has no files to look at beforehand.
        for what, names in (
            ("lacks", info["missing_keys"]),
            ("has in another shape", info["mismatched_keys"]),
            ("has left over", () if cls.is_base else info["unexpected_keys"]),
        ):
            if names:
                raise CheckpointError(f"{where}: beside its config.json the checkpoint {what} {_some(names)}")
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As transformers' own, with this file and an auto_map that names all three classes."""
        if kwargs.get("safe_serialization") is False:
            raise CheckpointError("a compressed model is saved as safetensors only")
        os.makedirs(save_directory, exist_ok=True)
        copy = os.path.join(save_directory, "modeling_impact.py")
        if not (os.path.exists(copy) and os.path.samefile(copy, __file__)):
            shutil.copyfile(__file__, copy)
        config = self.config  # type: ignore[attr-defined]
        # Written anew: a model from the hub carries its repository's name in it, and transformers itself would write
        # only the one class that it was loaded through, where vLLM asks for AutoModel.
        config.auto_map = auto_map(type(config))
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        head = self.get_output_embeddings()  # type: ignore[attr-defined]
        if not isinstance(head, FactorisedLinear):
            return super()._resize_token_embeddings(*args, **kwargs)  # type: ignore[misc]
        # `up` is the part of a factorised head that has a row a token: it stands in for the head meanwhile.
        self.set_output_embeddings(head.up)  # type: ignore[attr-defined]
        try:
            return super()._resize_token_embeddings(*args, **kwargs)  # type: ignore[misc]
        finally:
            head.up = self.get_output_embeddings()  # type: ignore[attr-defined]
            self.set_output_embeddings(head)  # type: ignore[attr-defined]


class ImpactLlamaModel(FactorisedModel, LlamaModel):
    config_class = ImpactLlamaConfig
    is_base = True
    _keys_to_ignore_on_load_unexpected = _HEAD


class ImpactLlamaForCausalLM(FactorisedModel, LlamaForCausalLM):
    config_class = ImpactLlamaConfig


class ImpactMistralModel(FactorisedModel, MistralModel):
    config_class = ImpactMistralConfig
    is_base = True
    _keys_to_ignore_on_load_unexpected = _HEAD


class ImpactMistralForCausalLM(FactorisedModel, MistralForCausalLM):
    config_class = ImpactMistralConfig


class ImpactQwen2Model(FactorisedModel, Qwen2Model):
    config_class = ImpactQwen2Config
    is_base = True
    _keys_to_ignore_on_load_unexpected = _HEAD


class ImpactQwen2ForCausalLM(FactorisedModel, Qwen2ForCausalLM):
    config_class = ImpactQwen2Config


CLASSES: tuple[tuple[type[PretrainedConfig], type[nn.Module], type[nn.Module]], ...] = (
    (ImpactLlamaConfig, ImpactLlamaModel, ImpactLlamaForCausalLM),
    (ImpactMistralConfig, ImpactMistralModel, ImpactMistralForCausalLM),
    (ImpactQwen2Config, ImpactQwen2Model, ImpactQwen2ForCausalLM),
)
"""Config, base model and causal model of each architecture."""


def auto_map(config_class: type[PretrainedConfig]) -> dict[str, str]:
    """What config.json tells the Auto classes: which class of this file each of them is to use."""
    (classes,) = (row for row in CLASSES if issubclass(config_class, row[0]))
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    return {auto: f"modeling_impact.{cls.__name__}" for auto, cls in zip(names, classes, strict=True)}


def _factorise(model: nn.Module, config: PretrainedConfig) -> None:
    """Puts an uninitialised pair of factors in the place of each Linear that has a rank."""
    ranks = config.impact_ranks or {}
    if not isinstance(ranks, dict):
        raise CheckpointError(f"impact_ranks must map names of layers to ranks, not be a {type(ranks).__name__}")
    if config.tie_word_embeddings and "lm_head" in ranks:
        raise CheckpointError("config.json ties lm_head to the embedding and factorises it: it can't be both")
    for name, rank in ranks.items():
        if model.is_base:
            if not name.startswith(BASE):
                continue
            name = name.removeprefix(BASE)
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise CheckpointError(f"impact_ranks gives {name} the rank {rank!r}: a rank is a number of at least 1")
        parent, _, child = name.rpartition(".")
        try:
            dense = model.get_submodule(name)
        except AttributeError:
            raise CheckpointError(f"impact_ranks names {name}, which this architecture and size do not have") from None
        if not isinstance(dense, nn.Linear):
            raise CheckpointError(f"impact_ranks names {name}, which is a {type(dense).__name__} and no Linear")
        factory = {"device": dense.weight.device, "dtype": dense.weight.dtype}
        pair = FactorisedLinear(dense.in_features, rank, dense.out_features, **factory)
        setattr(model.get_submodule(parent), child, pair)


def _fit_to_vllm(model: Any, config: PretrainedConfig) -> None:
    """What vLLM's transformers backend needs on top; a model under it has an attention of vLLM's name.

    The backend builds lm_head itself, from tensors that a base model leaves aside otherwise. Which layers of a module
    it can merge it finds out once a class, so a module with factorised children must be of another class than a dense
    one, and than one with other factorised children.
    Raises CheckpointError for what the backend can't serve.
    """
    if "lm_head" in (config.impact_ranks or {}):
        raise CheckpointError(
            "vLLM's transformers backend serves no factorised lm_head: install the package this checkpoint was made "
            "with beside vLLM and leave model_impl at auto, for the native model"
        )
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        raise CheckpointError("vLLM's transformers backend can't shard factorised layers: serve them on one device")
    model._keys_to_ignore_on_load_unexpected = set()
    for module in model.modules():
        if names := tuple(n for n, child in module.named_children() if isinstance(child, FactorisedLinear)):
            module.__class__ = _variant(module.__class__, names)


@cache
def _variant(parent: type, names: tuple[str, ...]) -> type:
    """A class like its parent in all but its name, one for each set of names."""
    return type(f"{parent.__name__}_{'_'.join(names)}", (parent,), {"__module__": parent.__module__})


def check_directory(cls: Any, config: PretrainedConfig, directory: str, variant: str | None = None) -> None:
    """Raises CheckpointError unless the headers of the weight files hold what the config asks for."""
    if pickled := sorted({path for pattern in _PICKLED for path in glob(os.path.join(escape(directory), pattern))}):
        raise CheckpointError(
            f"{directory} holds pickled weights ({os.path.basename(pickled[0])}), which can run code when they are "
            "loaded: only safetensors are read"
        )
    stored: dict[str, list[int]] = {}
    for file in _weight_files(directory, f".{variant}" if variant else ""):
        stored |= _header(os.path.join(directory, file))
    if getattr(config, "quantization_config", None) is not None:
        return  # a quantised tensor has a shape of its own
    try:
        with torch.device("meta"):
            model = cls(config)
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None
    asked = {name.removeprefix(BASE): list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        asked.pop("lm_head.weight", None)
    found = {name.removeprefix(BASE): shape for name, shape in stored.items()}
    if cls.is_base or config.tie_word_embeddings:
        found = {name: shape for name, shape in found.items() if not name.startswith("lm_head.")}
    for name in sorted(asked.keys() & found.keys()):
        if asked[name] != found[name]:
            raise CheckpointError(
                f"{directory}: {name} has the shape {found[name]}, but by config.json (impact_ranks and sizes) it is "
                f"{asked[name]}"
            )
    for name in sorted(asked.keys() - found.keys()):
        dense, factor = name.removesuffix(".weight"), name.removesuffix(".down.weight")
        if f"{dense}.down.weight" in found:
            raise CheckpointError(f"{directory}: {dense} is factorised in the weights and has no rank in config.json")
        if name != factor and f"{factor}.weight" in found:
            raise CheckpointError(f"{directory}: {factor} is dense in the weights and has a rank in config.json")
    if missing := sorted(asked.keys() - found.keys()):
        raise CheckpointError(f"{directory}: the weights lack {_some(missing)}, which config.json asks for")
    if left := sorted(found.keys() - asked.keys()):
        raise CheckpointError(f"{directory}: the weights hold {_some(left)}, which config.json knows nothing of")


def _weight_files(directory: str, variant: str) -> list[str]:
    """Names of the weight files, whether one or sharded."""
    index = os.path.join(directory, f"model.safetensors.index{variant}.json")
    if os.path.isfile(os.path.join(directory, f"model{variant}.safetensors")):
        return [f"model{variant}.safetensors"]
    if not os.path.isfile(index):
        raise CheckpointError(f"{directory} holds no model{variant}.safetensors")
    try:
        with open(index, encoding="utf-8") as stream:
            files = sorted(set(json.load(stream)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index} can't be read: it is damaged") from None
    for file in files:
        if not os.path.isfile(os.path.join(directory, file)):
            raise CheckpointError(f"{directory} holds no {file}, which its index names")
    return files


def _header(path: str) -> dict[str, list[int]]:
    """Name -> shape of every tensor in a safetensors file, which is as long as it says."""
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise CheckpointError(f"{path} is cut short, or no safetensors file")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            shapes = {name: [int(side) for side in entry["shape"]] for name, entry in header.items()}
            end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise CheckpointError(f"{path} is no safetensors file: its header can't be read") from None
    if size != 8 + length + end:
        raise CheckpointError(f"{path} is cut short: it has {size} bytes, its header speaks of {8 + length + end}")
    return shapes


def _some(names: Any) -> str:
    """The first of many names."""
    names = sorted(str(name) for name in names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
