"""Fusing a compressed model for decoding: the first factors of all layers that read one input, as one matrix.

A decoding step reads every weight once, so its time is the bytes moved over the memory's bandwidth, if nothing else
comes in between. Factorised layers bring twice as many and much smaller products as dense ones. This takes back what
can be taken back without moving another byte: q, k and v read the same input, gate and up too. impact.static_decoder
sees to the rest of a step.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, eager_attention_forward
from transformers.models.mistral.modeling_mistral import MistralAttention

from impact.architectures import ARCHITECTURES

_DECODED = [architecture for architecture in ARCHITECTURES.values() if architecture.decoded]
*_FIRST, _LAST = [architecture.name for architecture in _DECODED]
DECODED_NAMES = f"{', '.join(_FIRST)} and {_LAST}"
"""Of the architectures that this file and impact.static_decoder know, for a message."""


def known_forwards(part: str) -> frozenset[Callable[..., Any]]:
    """The forward passes of a part of those architectures, one of Attention, MLP, DecoderLayer, Model, ForCausalLM."""
    modules = [
        import_module(f"transformers.models.{known.model_type}.modeling_{known.model_type}") for known in _DECODED
    ]
    return frozenset(
        getattr(module, f"{known.name}{part}").forward for module, known in zip(modules, _DECODED, strict=True)
    )


# The forward passes that the fused modules below stand for: a module with another one is left alone, or refused.
KNOWN_ATTENTIONS = known_forwards("Attention")
_MLPS = known_forwards("MLP")
_QKV = ("q_proj", "k_proj", "v_proj")
_GATE_UP = ("gate_proj", "up_proj")
_HEAD_NORMS = ("q_norm", "k_norm")  # of each head of queries and keys, where an architecture has them


class SharedInput(nn.Module):
    """Layers that read one input x (..., n), their first matrices stored and multiplied as one.

    weight: (R, n), the rows of every layer's ``down`` where it is factorised and of its whole weight where it is dense.
    rest: what each layer does with its own rows of weight x: the second factor, the bias, or nothing.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        weights = [_first_matrix(layer).weight for layer in layers]
        self.rows = [len(weight) for weight in weights]
        self.weight = nn.Parameter(
            torch.cat([weight.detach() for weight in weights]), requires_grad=any(w.requires_grad for w in weights)
        )
        self.rest = nn.ModuleList(_what_follows(layer) for layer in layers)
        # Unregistered, for `separate`. Their weights go: this module alone holds the numbers, so that no later change
        # of dtype, device or value can reach one copy and not the other.
        self._layers = tuple(layers)
        for layer in layers:
            first = _first_matrix(layer)
            first.weight = nn.Parameter(torch.empty_like(first.weight, device="meta"))

    def forward(self, x: Tensor) -> list[Tensor]:
        # Flat: on a matrix, adding up's bias is part of the product, and a slice of columns need not be copied for it.
        first = F.linear(x.reshape(-1, x.shape[-1]), self.weight)
        parts = zip(first.split(self.rows, dim=1), self.rest, strict=True)
        return [rest(part).view(*x.shape[:-1], -1) for part, rest in parts]

    def separate(self) -> list[nn.Module]:
        """The layers as they were, their first matrices views of this module's weight."""
        for layer, weight, rest in zip(self._layers, self.weight.detach().split(self.rows), self.rest, strict=True):
            _first_matrix(layer).weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
            if is_factorised(layer):
                layer.up = rest
            elif isinstance(rest, _Bias):
                layer.bias = rest.bias
        return list(self._layers)


def _what_follows(layer: Any) -> nn.Module:
    if is_factorised(layer):
        return layer.up
    return nn.Identity() if layer.bias is None else _Bias(layer.bias)


class _Bias(nn.Module):
    def __init__(self, bias: nn.Parameter) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class FusedAttention(nn.Module):
    """Attention of Llama and its like with one first product for q, k and v."""

    config: Any
    layer_idx: int
    head_dim: int
    scaling: float
    q_norm: Any
    k_norm: Any

    def __init__(self, attention: Any) -> None:
        super().__init__()
        # what attention functions look for in the module that they are given
        for name in ("config", "layer_idx", "head_dim", "num_key_value_groups", "scaling", "is_causal"):
            setattr(self, name, getattr(attention, name))
        if type(attention).forward is MistralAttention.forward:
            self.sliding_window = getattr(attention.config, "sliding_window", None)
        else:
            self.sliding_window = getattr(attention, "sliding_window", None)
        self.qkv = SharedInput([getattr(attention, name) for name in _QKV])
        self.o_proj = attention.o_proj
        for name in _HEAD_NORMS:
            if hasattr(attention, name):
                setattr(self, name, getattr(attention, name))
        self._original = (attention,)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        shape = hidden_states.shape[:-1]
        q, k, v = (part.view(*shape, -1, self.head_dim) for part in self.qkv(hidden_states))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        if self.sliding_window is not None:
            kwargs["sliding_window"] = self.sliding_window
        y, weights = attend(self, q, k, v, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(y.reshape(*shape, -1)), weights

    def separate(self) -> nn.Module:
        """The attention module as it was before fusing."""
        (attention,) = self._original
        for name, layer in zip(_QKV, self.qkv.separate(), strict=True):
            setattr(attention, name, layer)
        attention.o_proj = self.o_proj
        return attention


class FusedMLP(nn.Module):
    """Gated MLP of Llama and its like with one first product for gate and up."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_up = SharedInput([getattr(mlp, name) for name in _GATE_UP])
        self.down_proj = mlp.down_proj
        self.act_fn = mlp.act_fn
        self._original = (mlp,)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x)
        return self.down_proj(self.act_fn(gate) * up)

    def separate(self) -> nn.Module:
        """The MLP as it was before fusing."""
        (mlp,) = self._original
        for name, layer in zip(_GATE_UP, self.gate_up.separate(), strict=True):
            setattr(mlp, name, layer)
        mlp.down_proj = self.down_proj
        return mlp


def is_factorised(layer: object) -> bool:
    """Whether a layer is a pair of factors: also one of a checkpoint's own modeling file, which is no class of ours."""
    down, up = getattr(layer, "down", None), getattr(layer, "up", None)
    return isinstance(down, nn.Linear) and isinstance(up, nn.Linear) and down.bias is None


def _first_matrix(layer: nn.Module) -> nn.Linear:
    first = layer.down if is_factorised(layer) else layer
    if not isinstance(first, nn.Linear):
        raise ValueError(f"a {type(layer).__name__} is neither a Linear nor a pair of factors")
    return first


def fuse_for_decoding(model: nn.Module) -> int:
    """Replaces, in place, every attention and MLP that has a factorised layer to share an input with; for inference.

    Returns the number of modules replaced, 0 for a dense or an already fused model. No weight is stored twice; names in
    the state dict change, so save the model first, or undo it by `separate_after_decoding`.
    Raises ValueError, and changes nothing, if such a module is of no architecture that is known here. One Linear that
    makes q, k and v (Phi-3) reads its input once already and is left as it is.
    """
    found: list[tuple[str, Callable[[nn.Module], nn.Module]]] = []
    for name, module in model.named_modules():
        for children, forwards, fused in ((_QKV, KNOWN_ATTENTIONS, FusedAttention), (_GATE_UP, _MLPS, FusedMLP)):
            if not any(is_factorised(getattr(module, child, None)) for child in children):
                continue
            if type(module).forward not in forwards:
                raise ValueError(f"{name} is a {type(module).__name__}: only {DECODED_NAMES} can be fused")
            for child in children:
                _first_matrix(getattr(module, child))
            found.append((name, fused))
    # one at a time, here and below, so that no more than one group of weights is in memory twice at any moment
    for up in _second_factors(model) if found else ():
        if up.weight.device.type == "cpu":
            _lay_out(up, up.weight.detach().T.contiguous().T)
    for name, fuse in found:
        model.set_submodule(name, fuse(model.get_submodule(name)))
    return len(found)


def separate_after_decoding(model: nn.Module) -> int:
    """Undoes `fuse_for_decoding` in place, no more than one weight copied at a time; returns the number of modules
    replaced."""
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, FusedAttention | FusedMLP)]
    for name, module in found:
        model.set_submodule(name, module.separate())
    for up in _second_factors(model) if found else ():
        _lay_out(up, up.weight.detach().contiguous())
    return len(found)


def _second_factors(model: nn.Module) -> list[nn.Linear]:
    pairs: list[Any] = [module for module in model.modules() if is_factorised(module)]
    return [pair.up for pair in pairs]


def _lay_out(linear: nn.Linear, weight: Tensor) -> None:
    """Gives a Linear the same weight in another layout."""
    linear.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
