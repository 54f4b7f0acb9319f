"""The native vLLM model of compressed Llama, Mistral and Qwen2 checkpoints; vLLM alone imports this file.

Layers that read one input (q/k/v, gate/up) are read by one product, whether they are dense or factorised: the rows of
its matrix are the `down` factors of the factorised ones and the whole weights of the dense ones. A factorised layer
then applies its `up` to its slice. lm_head's `down` belongs to compute_logits, its `up` is the parallel LM head.
Everything is on one device; docs/serving.md has the plan for several.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

from impact.modeling_impact import CLASSES, CheckpointError, FactorisedLinear, check_directory


class SharedRead(nn.Module):
    """Layers of one input x (T, n) as one product, and the `up` factors behind it.

    layers: name -> the layer as transformers has it, dense, pruned or factorised. prefix: that of the parent module.
    Returns the outputs (T, out_features), one a layer; `outputs` has their numbers of channels.
    """

    def __init__(self, layers: Mapping[str, Any], prefix: str) -> None:
        super().__init__()
        factors = {name: layer for name, layer in layers.items() if isinstance(layer, FactorisedLinear)}
        firsts = {name: layer.down if name in factors else layer for name, layer in layers.items()}
        self.names = tuple(layers)
        self.outputs = [(layer.up if name in factors else layer).out_features for name, layer in layers.items()]
        self.widths = [first.out_features for first in firsts.values()]
        # an `up` brings its own bias, so a read of factors alone has none
        self.biased = {name for name, first in firsts.items() if first.bias is not None}
        n = firsts[self.names[0]].in_features
        self.read = _linear(n, sum(self.widths), bool(self.biased), f"{prefix}.{'_'.join(layers)}.read")
        self.ups = nn.ModuleDict(
            {
                name: _linear(layer.up.in_features, layer.up.out_features, True, f"{prefix}.{name}.up")
                for name, layer in factors.items()
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = self.read(x).split(self.widths, dim=-1)
        if not self.ups:
            return list(parts)
        # vLLM's rotary embedding wants aligned memory, which a slice beside ranks of any size is not; a single token's
        # slice counts as contiguous all the same, hence a copy in any case
        return [
            self.ups[name](part) if name in self.ups else part.clone()
            for name, part in zip(self.names, parts, strict=True)
        ]

    def places(self, prefix: str) -> dict[str, Tensor]:
        """Name in the checkpoint -> the memory that it belongs in."""
        found = {}
        rows = self.read.weight.data.split(self.widths)
        biases = [None] * len(rows) if self.read.bias is None else self.read.bias.data.split(self.widths)
        for name, weight, bias in zip(self.names, rows, biases, strict=True):
            if name in self.ups:
                found[f"{prefix}.{name}.down.weight"] = weight
                found[f"{prefix}.{name}.up.weight"] = self.ups[name].weight.data
                found[f"{prefix}.{name}.up.bias"] = self.ups[name].bias.data
            else:
                found[f"{prefix}.{name}.weight"] = weight
            if name in self.biased:
                found[f"{prefix}.{name}.bias"] = bias
            elif bias is not None:
                bias.zero_()
        return found


class ImpactAttention(nn.Module):
    """Attention of any of the three architectures, with the heads that its layer has been left with.

    attention: that of transformers, for its shapes. window: the tokens that it sees at most, None for all.
    """

    def __init__(self, config: Any, vllm_config: VllmConfig, attention: Any, prefix: str, window: int | None) -> None:
        super().__init__()
        self.qkv = SharedRead({name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj")}, prefix)
        self.o = SharedRead({"o_proj": attention.o_proj}, prefix)
        head = attention.head_dim
        heads, kv_heads, _ = (channels // head for channels in self.qkv.outputs)
        self.rotary_emb = get_rope(
            head, max_position=config.max_position_embeddings, rope_parameters=config.rope_parameters
        )
        self.attn = Attention(
            heads,
            head,
            attention.scaling,
            num_kv_heads=kv_heads,
            cache_config=vllm_config.cache_config,
            per_layer_sliding_window=window,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        q, k, v = self.qkv(hidden_states)
        q, k = self.rotary_emb(positions, q, k)
        (y,) = self.o(self.attn(q, k, v))
        return y


class ImpactMLP(nn.Module):
    """The gated MLP of all three architectures. mlp: that of transformers, for its shapes."""

    def __init__(self, mlp: Any, prefix: str) -> None:
        super().__init__()
        self.gate_up = SharedRead({"gate_proj": mlp.gate_proj, "up_proj": mlp.up_proj}, prefix)
        self.down = SharedRead({"down_proj": mlp.down_proj}, prefix)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x)
        # vLLM's own operation wants both side by side, which would cost a copy where they are factorised
        (y,) = self.down(F.silu(gate) * up)
        return y


class ImpactDecoderLayer(nn.Module):
    """Attention and MLP; residuals travel beside the hidden states, as vLLM's norm adds them."""

    def __init__(self, config: Any, vllm_config: VllmConfig, layer: Any, prefix: str, window: int | None) -> None:
        super().__init__()
        self.self_attn = ImpactAttention(config, vllm_config, layer.self_attn, f"{prefix}.self_attn", window)
        self.mlp = ImpactMLP(layer.mlp, f"{prefix}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions, hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


@support_torch_compile
class ImpactModel(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        (base,) = (base for config_class, base, _ in CLASSES if isinstance(config, config_class))
        with torch.device("meta"):
            layers: Any = base(config).layers
        window = getattr(config, "sliding_window", None)
        # without a list of them, all layers are alike
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            ImpactDecoderLayer(
                config, vllm_config, layer, f"{prefix}.layers.{i}", window if kind == "sliding_attention" else None
            )
            for i, (layer, kind) in enumerate(zip(layers, kinds, strict=True))
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        return self.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for layer in self.layers:
            hidden_states, residual = layer(positions, hidden_states, residual)
        hidden_states, _ = self.norm(hidden_states, residual)
        return hidden_states


class ImpactForCausalLM(nn.Module):
    """Any of the three architectures: they differ in biases and attention windows, which the config says.

    Raises CheckpointError for what it can't serve, and for weights that don't fit the config.
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        _check_servable(config, vllm_config)
        self.config = config
        ranks = config.impact_ranks or {}
        self.model = ImpactModel(vllm_config=vllm_config, prefix=f"{prefix}.model" if prefix else "model")
        rank = ranks.get("lm_head")
        self.lm_head_down = None if rank is None else _linear(config.hidden_size, rank, False, "lm_head.down")
        self.lm_head = ParallelLMHead(
            config.vocab_size, rank or config.hidden_size, bias=rank is not None, prefix="lm_head"
        )
        if config.tie_word_embeddings:
            self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)
        self.logits_processor = LogitsProcessor(config.vocab_size)

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        if self.lm_head_down is not None:
            hidden_states = self.lm_head_down(hidden_states)
        return self.logits_processor(self.lm_head, hidden_states, self.lm_head.bias)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Copies every tensor to its place; each must have one and be of its shape."""
        places = self._places()
        for name, tensor in weights:
            if name == "lm_head.weight" and self.config.tie_word_embeddings:
                continue
            place = places.pop(name, None)
            if place is None:
                raise CheckpointError(f"the weights hold {name}, which config.json knows nothing of")
            if place.shape != tensor.shape:
                raise CheckpointError(
                    f"{name} has the shape {list(tensor.shape)}, but by config.json it is {list(place.shape)}"
                )
            place.copy_(tensor)
        if places:
            raise CheckpointError(f"the weights lack {min(places)}, which config.json asks for")
        # vLLM asks which of its own parameters are filled; each is, or the line above had been reached
        return {name for name, _ in self.named_parameters()}

    def _places(self) -> dict[str, Tensor]:
        """Name in the checkpoint -> the memory that it belongs in."""
        places = {
            "model.embed_tokens.weight": self._unpadded(self.model.embed_tokens.weight),
            "model.norm.weight": self.model.norm.weight.data,
        }
        if self.lm_head_down is not None:
            places["lm_head.down.weight"] = self.lm_head_down.weight.data
            places["lm_head.up.weight"] = self._unpadded(self.lm_head.weight)
            places["lm_head.up.bias"] = self._unpadded(self.lm_head.bias)
        elif not self.config.tie_word_embeddings:
            places["lm_head.weight"] = self._unpadded(self.lm_head.weight)
        layer: Any
        for i, layer in enumerate(self.model.layers):
            prefix = f"model.layers.{i}"
            for norm in ("input_layernorm", "post_attention_layernorm"):
                places[f"{prefix}.{norm}.weight"] = getattr(layer, norm).weight.data
            for read in (layer.self_attn.qkv, layer.self_attn.o):
                places |= read.places(f"{prefix}.self_attn")
            for read in (layer.mlp.gate_up, layer.mlp.down):
                places |= read.places(f"{prefix}.mlp")
        return places

    def _unpadded(self, parameter: nn.Parameter) -> Tensor:
        """The rows of a parameter that stand for tokens; those that vLLM pads the vocabulary by become zero."""
        parameter.data[self.config.vocab_size :].zero_()
        return parameter.data[: self.config.vocab_size]


def _linear(n: int, m: int, bias: bool, prefix: str) -> ReplicatedLinear:
    return ReplicatedLinear(n, m, bias=bias, prefix=prefix, return_bias=False)


def _check_servable(config: Any, vllm_config: VllmConfig) -> None:
    """Raises CheckpointError for what would otherwise fail late or give other tokens, and for a damaged directory."""
    parallel, where = vllm_config.parallel_config, vllm_config.model_config.model
    refused = {
        "tensor parallelism: serve it on one device": parallel.tensor_parallel_size > 1,
        "pipeline parallelism: serve it on one device": parallel.pipeline_parallel_size > 1,
        "vLLM's quantization": vllm_config.quant_config is not None,
        "LoRA adapters: merge them into the checkpoint first": vllm_config.lora_config is not None,
        f"the activation {config.hidden_act}": config.hidden_act != "silu",
    }
    for what, asked in refused.items():
        if asked:
            raise CheckpointError(f"the native vLLM model of compressed checkpoints doesn't serve {what}")
    if os.path.isdir(where) and vllm_config.load_config.load_format != "dummy":
        (causal,) = (causal for config_class, _, causal in CLASSES if isinstance(config, config_class))
        check_directory(causal, config, where)
