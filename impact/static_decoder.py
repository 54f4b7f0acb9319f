"""Greedy decoding with little besides reading the weights: a static cache, and a step written out in few operations.

Besides its products, the model's own forward pass runs some thirty small operations a layer and step, more with a
static cache, and on a small or strongly compressed model they cost more than the products. Here they are about twenty,
fewer where the norm is one operation, as on a GPU; keys and values stay in tensors that never move, so that a GPU can
replay a step as one recorded graph.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, StaticLayer

from impact.decoding import DECODED_NAMES, KNOWN_ATTENTIONS, FusedAttention, known_forwards

Replay = Literal["eager", "cuda_graph", "compile"]

# The forward passes that a step below stands for.
_MODELS = known_forwards("ForCausalLM")
_BACKBONES = known_forwards("Model")
_LAYERS = known_forwards("DecoderLayer")
# Their rotary frequencies change with the length so far: no table holds them.
_CHANGING_FREQUENCIES = frozenset({"dynamic", "longrope"})


class StaticDecoder:
    """Greedy decoding of a Llama or its like, dense, compressed or fused (impact.decoding).

    replay: how a step runs: "eager"; as a recorded CUDA graph (GPU only); or through torch.compile, which on a GPU
    records graphs too. The first step of the latter two takes seconds to minutes. A weight that is replaced, as fusing
    does, needs a new decoder.
    Raises ValueError for another model, a CUDA graph without a GPU, and an attention window below max_length.
    """

    def __init__(self, model: PreTrainedModel, batch_size: int, max_length: int, replay: Replay = "eager") -> None:
        config, device = model.config, model.device
        _check(model)
        window = getattr(config, "sliding_window", None)
        if window is not None and getattr(config, "use_sliding_window", True) and window < max_length:
            raise ValueError(f"the model attends to the last {window} tokens only: {max_length} are more than that")
        if replay == "cuda_graph" and device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a model on a GPU, this one is on {device}")
        self.model, self.batch_size, self.max_length, self.replay = model, batch_size, max_length, replay
        self._cache = Cache(layers=[StaticLayer(max_length) for _ in range(config.num_hidden_layers)])
        self._slots = torch.arange(max_length, device=device)
        cos, sin = model.model.rotary_emb(torch.zeros((), dtype=model.dtype, device=device), self._slots[None])
        half = cos.shape[-1] // 2
        # x cos + rotate_half(x) sin, the sign of rotate_half in the table: what is left of it is a roll by half
        self._cos, self._sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)
        self._padding = torch.zeros(batch_size, 1, 1, max_length, dtype=torch.bool, device=device)
        self._padded = False
        # Of the token that the next step reads: itself, its position (counted without padding), its place in the cache.
        self._token = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._used = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._compiled: Callable[[], Tensor] | None = None
        if replay == "compile":
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            # each decoder by itself: all would share one limit, beyond which torch runs a step uncompiled, silently
            alone: dict[str, Any] = {"fullgraph": True, "isolate_recompiles": True}
            self._compiled = torch.compile(self._logits_at_any_length, mode=mode, **alone)

    @torch.no_grad()
    def prefill(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Starts anew from prompts (batch, length) and returns the first token of each answer, (batch,).

        attention_mask: (batch, length), 0 at padding, which must be on the left. Raises ValueError for another shape.
        """
        batch, length = input_ids.shape
        if batch != self.batch_size or length >= self.max_length:
            raise ValueError(
                f"prompts of shape {tuple(input_ids.shape)} in a decoder for {self.batch_size} rows of at most "
                f"{self.max_length} tokens, answer included"
            )
        self._cache.reset()
        self._padding.zero_()
        mask, positions = None, self._slots[:length].expand(batch, -1)
        self._padded = attention_mask is not None and not bool(attention_mask.all())
        if attention_mask is not None and self._padded:
            if not attention_mask[:, -1].all():
                raise ValueError("prompts are padded on the right: the answer would follow the padding")
            self._padding[:, 0, 0, :length] = attention_mask == 0
            positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
            mask = self._additive(self._slots[:length, None] >= self._slots)
        # the model's own pass: a prompt is large enough for it
        logits = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self._token.copy_(logits[:, -1:].argmax(dim=-1))
        self._position.copy_(positions[:, -1] + 1)
        self._slot.fill_(length)
        self._used = length
        return self._token[:, 0].clone()

    @torch.no_grad()
    def step(self) -> Tensor:
        """The next token of each answer, (batch,). Raises ValueError when the cache is full."""
        if self._used >= self.max_length:
            raise ValueError(f"the cache of {self.max_length} tokens is full")
        if self.replay == "cuda_graph":
            if self._graph is None:
                self._graph = self._record()
            self._graph.replay()
        elif self._compiled is not None:
            self._advance(self._compiled())
        else:
            self._advance(self._logits_at_this_length())
        self._used += 1
        return self._token[:, 0].clone()

    def generate(self, input_ids: Tensor, new_tokens: int, attention_mask: Tensor | None = None) -> Tensor:
        """The greedy continuation, (batch, new_tokens); it doesn't stop at an end token."""
        first = self.prefill(input_ids, attention_mask)
        return torch.stack([first, *(self.step() for _ in range(new_tokens - 1))], dim=1)

    def _advance(self, logits: Tensor) -> None:
        self._token.copy_(logits.argmax(dim=-1))
        self._position.add_(1)
        self._slot.add_(1)

    def _logits_at_any_length(self) -> Tensor:
        """(batch, 1, vocabulary). The length is a tensor, so that a recording holds for every step."""
        return self._logits(slice(None), self._additive(self._slots <= self._slot))

    def _logits_at_this_length(self) -> Tensor:
        """(batch, 1, vocabulary), without the empty part of the cache and, mostly, without a mask."""
        filled = slice(self._used + 1)
        mask = self._additive(self._slots <= self._slot)[..., filled] if self._padded else None
        return self._logits(filled, mask)

    def _logits(self, filled: slice, mask: Tensor | None) -> Tensor:
        backbone: Any = self.model.model
        x = backbone.embed_tokens(self._token)
        # (batch, 1, 1, head size)
        cos, sin = (table.index_select(0, self._position)[:, None, None] for table in (self._cos, self._sin))
        for layer, cache in zip(backbone.layers, self._cache.layers, strict=True):
            x = x + self._attend(layer.self_attn, _normed(layer.input_layernorm, x), cos, sin, cache, filled, mask)
            x = x + layer.mlp(_normed(layer.post_attention_layernorm, x))
        return self.model.lm_head(_normed(backbone.norm, x))

    def _attend(
        self, attention: Any, x: Tensor, cos: Tensor, sin: Tensor, cache: Any, filled: slice, mask: Tensor | None
    ) -> Tensor:
        if isinstance(attention, FusedAttention):
            q, k, v = attention.qkv(x)
        else:
            q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
        size = attention.head_dim
        if hasattr(attention, "q_norm"):
            heads = (part.view(self.batch_size, -1, 1, size) for part in (q, k))
            norms = (attention.q_norm, attention.k_norm)
            qk = torch.cat([_normed(norm, part) for norm, part in zip(norms, heads, strict=True)], dim=1)
        else:
            qk = torch.cat([q, k], dim=-1).view(self.batch_size, -1, 1, size)
        qk = torch.addcmul(qk * cos, qk.roll(size // 2, -1), sin)
        kv_heads = k.shape[-1] // size
        cache.keys.index_copy_(2, self._slot, qk[:, -kv_heads:])
        cache.values.index_copy_(2, self._slot, v.view(self.batch_size, kv_heads, 1, size))
        # The heads that share a key are as good as several queries: no key is repeated for them.
        y = F.scaled_dot_product_attention(
            qk[:, :-kv_heads].reshape(self.batch_size, kv_heads, -1, size),
            cache.keys[:, :, filled],
            cache.values[:, :, filled],
            attn_mask=mask,
            scale=attention.scaling,
        )
        return attention.o_proj(y.reshape(self.batch_size, 1, -1))

    def _additive(self, causal: Tensor) -> Tensor:
        """(batch, 1, queries, max_length): 0 where a query may look, the lowest number elsewhere."""
        allowed = causal & ~self._padding
        lowest = torch.finfo(self.model.dtype).min
        return torch.zeros(allowed.shape, dtype=self.model.dtype, device=allowed.device).masked_fill_(~allowed, lowest)

    def _record(self) -> torch.cuda.CUDAGraph:
        # Libraries set themselves up in the first calls, which mustn't be recorded; what these change is put back.
        state = (self._token, self._position, self._slot)
        before = [tensor.clone() for tensor in state]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._advance(self._logits_at_any_length())
                for tensor, value in zip(state, before, strict=True):
                    tensor.copy_(value)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance(self._logits_at_any_length())
        return graph


def _normed(norm: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _check(model: nn.Module) -> None:
    """Raises ValueError if a step can't be written out for this model."""
    backbone: Any = getattr(model, "model", None)
    if type(model).forward not in _MODELS or type(backbone).forward not in _BACKBONES:
        raise ValueError(f"a {type(model).__name__} can't be decoded here: only {DECODED_NAMES} can")
    for i, layer in enumerate(backbone.layers):
        attention = layer.self_attn
        known = type(attention).forward in KNOWN_ATTENTIONS or isinstance(attention, FusedAttention)
        if type(layer).forward not in _LAYERS or not known:
            raise ValueError(f"layer {i} of this {type(model).__name__} has a {type(attention).__name__} of its own")
    kind = backbone.config.rope_parameters["rope_type"]
    if kind in _CHANGING_FREQUENCIES:
        raise ValueError(f"rotary positions of type {kind!r} change with the length: no table holds them")
