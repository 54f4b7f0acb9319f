"""The native vLLM model of compressed checkpoints of every architecture; vLLM alone imports this file.

Layers that read one input (q/k/v, gate/up) are read by one product, whether they are dense or factorised: the rows of
its matrix are the `down` factors of the factorised ones and the whole weights of the dense ones. A factorised layer
then applies its `up` to its slice. lm_head's `down` belongs to compute_logits, its `up` is the parallel LM head.
What sets the architectures apart (one Linear for q, k and v, norms of heads, norms behind the blocks) is read off
transformers' own modules, built without memory. Everything is on one device; docs/serving.md has the plan for several.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

from impact.modeling_impact import CheckpointError, FactorisedLinear, check_directory, classes_of


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
    """Attention of any architecture, with the heads that its layer has been left with.

    attention: that of transformers, for its shapes. kind: of the layer, as the config has it. window: the tokens that
    it sees at most, None for all.
    """

    def __init__(
        self, config: Any, vllm_config: VllmConfig, attention: Any, prefix: str, kind: str, window: int | None
    ) -> None:
        super().__init__()
        self.qkv = SharedRead(_present(attention, "q_proj", "k_proj", "v_proj", "qkv_proj"), prefix)
        self.o = SharedRead({"o_proj": attention.o_proj}, prefix)
        self.norms = nn.ModuleDict(
            {name: _norm(norm) for name, norm in _present(attention, "q_norm", "k_norm").items()}
        )
        self.head = attention.head_dim
        # of what o_proj reads; one Linear for all three has no widths of theirs
        o: Any = attention.o_proj
        q = (o.down if isinstance(o, FactorisedLinear) else o).in_features
        k = q // attention.num_key_value_groups
        self.channels = [q, k, k]
        rope = config.rope_parameters
        self.rotary_emb = get_rope(
            self.head, max_position=config.max_position_embeddings, rope_parameters=rope.get(kind, rope)
        )
        self.attn = Attention(
            q // self.head,
            self.head,
            attention.scaling,
            num_kv_heads=k // self.head,
            cache_config=vllm_config.cache_config,
            per_layer_sliding_window=window,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        read = self.qkv(hidden_states)
        if len(read) == 1:  # a Linear for all three; copies, as in SharedRead
            read = [part.clone() for part in read[0].split(self.channels, dim=-1)]
        q, k, v = read
        if self.norms:
            q, k = (
                norm(x.unflatten(-1, (-1, self.head))).flatten(-2)
                for norm, x in ((self.norms["q_norm"], q), (self.norms["k_norm"], k))
            )
        q, k = self.rotary_emb(positions, q, k)
        (y,) = self.o(self.attn(q, k, v))
        return y


class ImpactMLP(nn.Module):
    """The gated MLP of any architecture. mlp: that of transformers, for its shapes."""

    def __init__(self, config: Any, mlp: Any, prefix: str) -> None:
        super().__init__()
        self.gate_up = SharedRead(_present(mlp, "gate_proj", "up_proj", "gate_up_proj"), prefix)
        self.down = SharedRead({"down_proj": mlp.down_proj}, prefix)
        self.activation = _ACTIVATIONS[_activation(config)]

    def forward(self, x: Tensor) -> Tensor:
        read = self.gate_up(x)
        gate, up = read if len(read) == 2 else read[0].chunk(2, dim=-1)
        # vLLM's own operation wants both side by side, which would cost a copy where they are factorised
        (y,) = self.down(self.activation(gate) * up)
        return y


class ImpactDecoderLayer(nn.Module):
    """Attention and MLP; residuals travel beside the hidden states, as vLLM's norm adds them.

    norms: those of transformers' layer by their names. Two of them come before the blocks; where there are four
    (Gemma-3), the second and the last come behind them.
    """

    def __init__(
        self, config: Any, vllm_config: VllmConfig, layer: Any, prefix: str, kind: str, window: int | None
    ) -> None:
        super().__init__()
        self.self_attn = ImpactAttention(config, vllm_config, layer.self_attn, f"{prefix}.self_attn", kind, window)
        self.mlp = ImpactMLP(config, layer.mlp, f"{prefix}.mlp")
        self.norms = nn.ModuleDict({name: _norm(norm) for name, norm in _present(layer, *_NORMS).items()})
        self.behind = "pre_feedforward_layernorm" in self.norms

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = hidden_states
            hidden_states = self.norms["input_layernorm"](hidden_states)
        else:
            hidden_states, residual = self.norms["input_layernorm"](hidden_states, residual)
        hidden_states = self.self_attn(positions, hidden_states)
        if not self.behind:
            hidden_states, residual = self.norms["post_attention_layernorm"](hidden_states, residual)
            return self.mlp(hidden_states), residual
        hidden_states = self.norms["post_attention_layernorm"](hidden_states)
        hidden_states, residual = self.norms["pre_feedforward_layernorm"](hidden_states, residual)
        return self.norms["post_feedforward_layernorm"](self.mlp(hidden_states)), residual


@support_torch_compile
class ImpactModel(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        with torch.device("meta"):
            outline: Any = classes_of(config)[1](config)
        # Gemma-3 scales what it embeds, by a number in the precision of its weights
        scale = getattr(outline.embed_tokens, "scalar_embed_scale", 1.0)
        self.scale = None if scale == 1.0 else torch.tensor(scale, dtype=torch.get_default_dtype()).item()
        window = getattr(config, "sliding_window", None)
        # without a list of them, all layers are alike
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            ImpactDecoderLayer(
                config,
                vllm_config,
                layer,
                f"{prefix}.layers.{i}",
                kind,
                window if kind == "sliding_attention" else None,
            )
            for i, (layer, kind) in enumerate(zip(outline.layers, kinds, strict=True))
        )
        self.norm = _norm(outline.norm)

    def embed_input_ids(self, input_ids: Tensor | None) -> Tensor:
        embedded = self.embed_tokens(input_ids)
        return embedded if self.scale is None else embedded * self.scale

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        hidden_states = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for layer in self.layers:
            hidden_states, residual = layer(positions, hidden_states, residual)
        hidden_states, _ = self.norm(hidden_states, residual)
        return hidden_states


class ImpactForCausalLM(nn.Module):
    """Any architecture of impact.architectures.

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
        soft_cap = getattr(config, "final_logit_softcapping", None)
        self.logits_processor = LogitsProcessor(config.vocab_size, soft_cap=soft_cap)

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
        places: dict[str, Tensor] = {
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
            for place, norms in ((prefix, layer.norms), (f"{prefix}.self_attn", layer.self_attn.norms)):
                places |= {f"{place}.{name}.weight": norm.weight.data for name, norm in norms.items()}
            for read in (layer.self_attn.qkv, layer.self_attn.o):
                places |= read.places(f"{prefix}.self_attn")
            for read in (layer.mlp.gate_up, layer.mlp.down):
                places |= read.places(f"{prefix}.mlp")
        return places

    def _unpadded(self, parameter: nn.Parameter) -> Tensor:
        """The rows of a parameter that stand for tokens; those that vLLM pads the vocabulary by become zero."""
        parameter.data[self.config.vocab_size :].zero_()
        return parameter.data[: self.config.vocab_size]


_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def _present(module: nn.Module, *names: str) -> dict[str, Any]:
    """Those children that a module has, by name."""
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


def _norm(norm: Any) -> Any:
    """vLLM's norm for one of transformers'; Gemma's adds 1 to its weights."""
    (size,) = norm.weight.shape
    gemma = type(norm).__name__.startswith("Gemma")
    return GemmaRMSNorm(size, eps=norm.eps) if gemma else RMSNorm(size, eps=norm.variance_epsilon)


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
        f"the activation {_activation(config)}": _activation(config) not in _ACTIVATIONS,
        "capped attention scores": getattr(config, "attn_logit_softcapping", None) is not None,
        "attention to both sides": bool(getattr(config, "use_bidirectional_attention", False)),
    }
    for what, asked in refused.items():
        if asked:
            raise CheckpointError(f"the native vLLM model of compressed checkpoints doesn't serve {what}")
    if os.path.isdir(where) and vllm_config.load_config.load_format != "dummy":
        check_directory(classes_of(config)[2], config, where)
