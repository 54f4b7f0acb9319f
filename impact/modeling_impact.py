"""Compressed models as transformers knows models: of whatever architecture, its own classes with other layers.

A Linear is replaced by `down` and `up`, y = up(down(x)), of the rank that config.impact_ranks gives its name, or by a
Linear of the widths that config.impact_pruned gives it; layers without an entry are as the other settings make them.
This file is copied into every checkpoint and must go on importing torch and transformers alone: with trust_remote_code
it is all that a process knows of this project.
"""

import json
import os
import shutil
import struct
from functools import cache
from glob import escape, glob
from typing import Any

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, PretrainedConfig

PREFIX = "impact_"
"""What the model type of a compressed model begins with; the dense one follows."""

BASE = "model."
"""Prefix that a causal model's checkpoint gives the tensors of its base model."""

_HEAD = [r"^lm_head\."]
_PICKLED = ("pytorch_model*.bin", "model*.bin", "*.pth", "model*.pt", "*.pkl", "*.ckpt")
# Linears that read the residual stream, and those that write to it: pruning narrows the other side of them.
_READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
_WRITERS = ("o_proj", "down_proj")


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


class FactorisedModel:
    """What a transformers model class needs on top to be built, loaded and saved with factorised and pruned layers.

    is_base: the model without lm_head, whose tensors have no `model.` before their names.
    """

    _tp_plan = None
    is_base = False

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        _replace_layers(self, config)  # type: ignore[arg-type]
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
        _settle_quantised(model, where)
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
        if getattr(self, "hf_quantizer", None) is not None:
            # transformers would turn quantised weights back into what it read them from, which it has no way for
            kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def _get_static_cache_init_shape(self) -> Any:
        # The config's number of heads is not that of pruned layers; a cache learns theirs when it is first used.
        if self.config.impact_pruned:  # type: ignore[attr-defined]
            return None
        return super()._get_static_cache_init_shape()  # type: ignore[misc]

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        if self.config.impact_pruned:  # type: ignore[attr-defined]
            raise CheckpointError("continuous batching has one number of heads for all layers, a pruned model has not")
        return super().init_continuous_batching(*args, **kwargs)  # type: ignore[misc]

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


class _OwnHeads:
    """The config of a layer that has another number of heads of queries than the model's config says."""

    def __init__(self, config: Any, num_attention_heads: int) -> None:
        self._config, self.num_attention_heads = config, num_attention_heads

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_config":  # asked for while it is being copied, before it has one
            raise AttributeError(name)
        return getattr(self._config, name)


def adopt_heads(model: nn.Module) -> None:
    """To be called after layers were pruned: one Linear for q, k and v is cut by numbers of heads that the attention
    takes from the config and not from its width, so it gets its own."""
    block: Any
    for block in model.modules():
        if {"qkv_proj", "o_proj"} <= {child for child, _ in block.named_children()}:
            heads = _width(block.o_proj, "o_proj") // block.head_dim
            if heads != block.config.num_attention_heads:
                block.config = _OwnHeads(block.config, heads)
                block.num_key_value_heads = heads // block.num_key_value_groups


@cache
def classes(model_type: str) -> tuple[Any, Any, Any]:
    """Config, base model and causal model of the compressed form of a dense model type, each on transformers' own.

    The config's impact_ranks: name of a Linear in the causal model -> its rank. impact_pruned: name of a pruned one ->
    its in_features, out_features and bias. impact_recipe: how they came about.
    """
    dense = CONFIG_MAPPING[model_type]
    base, causal = MODEL_MAPPING[dense], MODEL_FOR_CAUSAL_LM_MAPPING[dense]
    settings = dict.fromkeys(("impact_ranks", "impact_pruned", "impact_recipe"))
    config = _derived(
        (dense,),
        model_type=f"{PREFIX}{model_type}",
        base_model_tp_plan=None,  # the dense plan would shard the wrong tensors
        __annotations__=dict.fromkeys(settings, dict | None),
        **settings,
    )
    return (
        config,
        _derived((FactorisedModel, base), config_class=config, is_base=True, _keys_to_ignore_on_load_unexpected=_HEAD),
        _derived((FactorisedModel, causal), config_class=config),
    )


def _derived(bases: tuple[type, ...], **attributes: Any) -> type:
    return type(f"Impact{bases[-1].__name__}", bases, {"__module__": __name__, **attributes})


def classes_of(config: Any) -> tuple[Any, Any, Any]:
    """The classes that a compressed model's config, or its class, belongs to."""
    return classes(config.model_type.removeprefix(PREFIX))


def __getattr__(name: str) -> Any:
    """ImpactLlamaForCausalLM and the like are made when somebody asks for one: this file has no list of them."""
    dense: Any = getattr(transformers, name.removeprefix("Impact"), None) if name.startswith("Impact") else None
    model_type = getattr(getattr(dense, "config_class", None) or dense, "model_type", None)
    if model_type in CONFIG_MAPPING:
        for found in classes(model_type):
            if found.__name__ == name:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def auto_map(config_class: type[PretrainedConfig]) -> dict[str, str]:
    """What config.json tells the Auto classes: which class of this file each of them is to use."""
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    return {auto: f"modeling_impact.{cls.__name__}" for auto, cls in zip(names, classes_of(config_class), strict=True)}


def _replace_layers(model: nn.Module, config: PretrainedConfig) -> None:
    """Puts uninitialised factors in the place of each Linear that has a rank, and narrower ones in that of pruned."""
    ranks, pruned = config.impact_ranks or {}, config.impact_pruned or {}
    settings = (("impact_ranks", ranks, _factors), ("impact_pruned", pruned, _narrowed))
    for setting, layers, _ in settings:
        if not isinstance(layers, dict):
            kind = type(layers).__name__
            raise CheckpointError(f"{setting} must map names of layers to their shapes, not be a {kind}")
    if config.tie_word_embeddings and "lm_head" in ranks:
        raise CheckpointError("config.json ties lm_head to the embedding and factorises it: it can't be both")
    if both := ranks.keys() & pruned.keys():
        raise CheckpointError(f"config.json both factorises and prunes {_some(both)}: a layer is one or the other")
    for setting, layers, replacement in settings:
        for name, shape in layers.items():
            if model.is_base:
                if not name.startswith(BASE):
                    continue
                name = name.removeprefix(BASE)
            try:
                dense = model.get_submodule(name)
            except AttributeError:
                raise CheckpointError(f"{setting} names {name}, which this architecture and size do not have") from None
            if not isinstance(dense, nn.Linear):
                raise CheckpointError(f"{setting} names {name}, which is a {type(dense).__name__} and no Linear")
            factory = {"device": dense.weight.device, "dtype": dense.weight.dtype}
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacement(name, shape, dense, factory))
    if pruned:
        for name, module in model.named_modules():
            _check_widths(name, module)
        adopt_heads(model)


def _factors(name: str, rank: Any, dense: nn.Linear, factory: dict[str, Any]) -> nn.Module:
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise CheckpointError(f"impact_ranks gives {name} the rank {rank!r}: a rank is a number of at least 1")
    return FactorisedLinear(dense.in_features, rank, dense.out_features, **factory)


def _narrowed(name: str, shape: Any, dense: nn.Linear, factory: dict[str, Any]) -> nn.Module:
    child = name.rpartition(".")[2]
    if child not in _READERS + _WRITERS:
        raise CheckpointError(f"impact_pruned names {name}: only layers of attention blocks and MLPs can be pruned")
    narrow, whole = ("out_features", "in_features") if child in _READERS else ("in_features", "out_features")
    most, residual = getattr(dense, narrow), getattr(dense, whole)
    valid = isinstance(shape, dict) and shape.keys() == {narrow, whole, "bias"}
    valid = valid and [type(shape[key]) for key in (narrow, whole, "bias")] == [int, int, bool]
    if not (valid and 1 <= shape[narrow] <= most and shape[whole] == residual):
        raise CheckpointError(
            f"impact_pruned gives {name} {shape!r}: it needs {narrow} from 1 to {most}, {whole} {residual} and a bias "
            "of true or false"
        )
    return nn.Linear(**shape, **factory)


def _check_widths(name: str, block: Any) -> None:
    """Raises CheckpointError if this is an attention block or an MLP whose layers don't fit each other."""
    widths = {child: _width(layer, child) for child, layer in block.named_children() if child in _READERS + _WRITERS}
    if "down_proj" in widths:
        n = widths["down_proj"]
        fit = widths == dict.fromkeys(widths, n) | ({"gate_up_proj": 2 * n} if "gate_up_proj" in widths else {})
        rule = "they must be equal" if "gate_up_proj" not in widths else "gate_up_proj must have two for each"
    elif "o_proj" in widths:
        # pruned heads of keys take all heads of queries along that they serve: num_key_value_groups stays
        q, groups, head = widths["o_proj"], block.num_key_value_groups, block.head_dim
        k = q // groups
        whole = {"q_proj": q, "k_proj": k, "v_proj": k, "qkv_proj": q + 2 * k, "o_proj": q}
        fit = q % (groups * head) == 0 and all(width == whole[child] for child, width in widths.items())
        rule = f"a head has {head}, and {groups} of q_proj and o_proj share one of k_proj and v_proj"
    else:
        return
    if not fit:
        found = ", ".join(f"{child} {width}" for child, width in widths.items())
        raise CheckpointError(f"impact_pruned leaves {name} with these channels: {found}; {rule}")


def _width(layer: Any, child: str) -> int:
    """The number of channels on the side that is not the residual stream's."""
    first, last = getattr(layer, "down", layer), getattr(layer, "up", layer)
    return int(last.out_features if child in _READERS else first.in_features)


def _settle_quantised(model: nn.Module, where: Any) -> None:
    """Checks the weights that bitsandbytes holds, and keeps them from the paths of its that fail for some widths.

    transformers itself loads such a weight as it comes. Raises CheckpointError if one has no scales or another shape
    than config.json says.
    """
    for name, module in model.named_modules():
        if (kind := type(module).__name__) not in ("Linear8bitLt", "Linear4bit"):
            continue
        layer: Any = module
        # a weight in 4 bits is packed: its scales know its shape
        packed = kind == "Linear4bit"
        scales: Any = getattr(layer.weight, "quant_state" if packed else "SCB", None)
        if scales is None and (packed or layer.weight.dtype == torch.int8):
            raise CheckpointError(f"{where}: {name} is quantised and has no scales")
        shape, asked = list((scales if packed else layer.weight).shape), [layer.out_features, layer.in_features]
        if shape != asked:
            raise CheckpointError(f"{where}: {name}.weight has the shape {shape}, but by config.json it is {asked}")
        if packed:
            # On CPUs with AVX512-BF16 bitsandbytes packs a weight once more when it is first used: it must have
            # multiples of 32 rows and 64 columns then, and its scales are rounded again when it is saved.
            layer.support_avx512bf16_for_cpu = False
        # On CPUs bitsandbytes 0.50 unpacks rows of 4-bit weights wrongly that don't end with a block of 64, and
        # torch 2.13 multiplies int8 matrices wrongly that have one column. A rank may be any number.
        if scales is not None and layer.weight.device.type == "cpu" and (shape[1] % 64 if packed else shape[1] == 1):
            layer.__class__ = _with_plain_product(layer.__class__)


@cache
def _with_plain_product(parent: type) -> type:
    return type(parent.__name__, (parent,), {"__module__": parent.__module__, "forward": _plain_product})


def _plain_product(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """What Linear8bitLt and Linear4bit stand for: x in a product with the numbers that the weight is stored as."""
    weight, bnb = layer.weight, torch.ops.bitsandbytes
    if layer.__class__.__name__ == "Linear8bitLt":
        scales = layer.state.SCB if weight.SCB is None else weight.SCB
        W = weight.data * (scales / 127)[:, None]
    else:
        state, scales = weight.quant_state, weight.quant_state.absmax
        if state.nested:
            outer = state.state2
            scales = bnb.dequantize_blockwise(scales, outer.absmax, outer.code, outer.blocksize, outer.dtype)
            scales = scales + state.offset
        # as one row, of an even number of weights
        data = weight.data.view(torch.uint8)
        W = bnb.dequantize_4bit(data, scales, state.blocksize, state.quant_type, [2 * data.numel()], torch.float32)
        W = W.flatten()[: state.shape.numel()].view(state.shape)
    dtype = getattr(layer, "compute_dtype", None) or x.dtype
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return nn.functional.linear(x.to(dtype), W.to(dtype), bias).to(x.dtype)


def _fit_to_vllm(model: Any, config: PretrainedConfig) -> None:
    """What vLLM's transformers backend needs on top; a model under it has an attention of vLLM's name.

    The backend builds lm_head itself, from tensors that a base model leaves aside otherwise. Which layers of a module
    it can merge it finds out once a class, so a module with factorised children must be of another class than a dense
    one, and than one with other factorised children.
    Raises CheckpointError for what the backend can't serve.
    """
    unserved = {"factorised lm_head": "lm_head" in (config.impact_ranks or {}), "pruned layers": config.impact_pruned}
    for what, present in unserved.items():
        if present:
            raise CheckpointError(
                f"vLLM's transformers backend serves no {what}: install the package this checkpoint was made with "
                "beside vLLM and leave model_impl at auto, for the native model"
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
    # a weight in 4 bits has a shape of its own, beside its scales
    packed = {name for name in found if f"{name}.absmax" in found}
    for name in sorted((asked.keys() & found.keys()) - packed):
        if asked[name] != found[name]:
            raise CheckpointError(
                f"{directory}: {name} has the shape {found[name]}, but by config.json (impact_ranks, impact_pruned and "
                f"sizes) it is {asked[name]}"
            )
    if getattr(config, "quantization_config", None) is not None:
        return  # what else there is beside a weight is its quantiser's matter
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
