"""Models of a given shape and size with random weights, to measure speed without any download."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.initialization import no_init_weights
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from impact.factorisation import FactorisedLinear

# a prime: rows of any width that repeat the block start elsewhere in it, so that no matrix loses its rank by repetition
_BLOCK = 999_983


@dataclass(frozen=True)
class ModelShape:
    """What decides a Llama's size and speed; the head size is hidden_size / num_attention_heads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 4096

    def linears(self) -> Iterator[tuple[int, int]]:
        """(out, in) of every Linear, lm_head last."""
        h, f = self.hidden_size, self.intermediate_size
        kv = h // self.num_attention_heads * self.num_key_value_heads
        for _ in range(self.num_hidden_layers):
            yield from ((h, h), (kv, h), (kv, h), (h, h), (f, h), (f, h), (h, f))
        yield self.vocab_size, h

    def parameters(self, share: float | None = None) -> int:
        """Number of parameters, of the dense model or with every Linear factorised at the rank of `rank_at`."""
        rest = self.hidden_size * (self.vocab_size + 2 * self.num_hidden_layers + 1)  # embedding and norms
        if share is None:
            return rest + sum(m * n for m, n in self.linears())
        # a factorised layer has a bias
        return rest + sum(rank_at(share, m, n) * (m + n) + m for m, n in self.linears())


# Of the published configs; Table 14 is Llama 2-7B's.
SHAPES = {
    "llama2-7b": ModelShape(32000, 4096, 11008, 32, 32, 32),
    "llama2-13b": ModelShape(32000, 5120, 13824, 40, 40, 40),
    "llama2-70b": ModelShape(32000, 8192, 28672, 80, 64, 8),
}


def rank_at(share: float, m: int, n: int) -> int:
    """The rank of an (m, n) layer that keeps a share of its full rank, at least 1."""
    return max(1, round(share * min(m, n)))


def share_for_size(shape: ModelShape, parameters: int) -> float:
    """The share of the full rank, the same in every layer, whose model comes closest to a number of parameters.

    The paper's sizes fit such a uniform share with lm_head among the layers. A share may exceed 1/2: the factors are
    larger than the matrix then, as the paper's are. A narrow shape has few ranks, and the closest size may be percents
    away. Raises ValueError for a size below that of rank 1 or above that of full rank.
    """
    if not 0.99 * shape.parameters(0) <= parameters <= 1.01 * shape.parameters(1):
        raise ValueError(
            f"no rank gives {parameters:,} parameters: factorised, this shape has {shape.parameters(0):,} to "
            f"{shape.parameters(1):,}"
        )
    low, high = 0.0, 1.0
    # ranks are whole: below a step of one rank in the widest layer nothing changes any more
    while high - low > 1 / (4 * max(min(m, n) for m, n in shape.linears())):
        middle = (low + high) / 2
        low, high = (middle, high) if shape.parameters(middle) < parameters else (low, middle)
    return min(low, high, key=lambda s: abs(shape.parameters(s) - parameters))


def random_weights_model(
    shape: ModelShape, parameters: int | None, dtype: torch.dtype, device: str = "cpu", attention: str = "sdpa"
) -> LlamaForCausalLM:
    """A Llama of this shape: dense where `parameters` is None, else with every Linear factorised to that size.

    The weights are made in `dtype` on `device`; the dense model never exists beside the compressed one. They are random
    with the variance that keeps activations finite; large ones repeat a block of a million numbers, to be made fast.
    Raises ValueError for a size that no rank gives.
    """
    share = None if parameters is None else share_for_size(shape, parameters)
    config = LlamaConfig(**asdict(shape), tie_word_embeddings=False, attn_implementation=attention)
    with torch.device("meta"), no_init_weights():
        model = LlamaForCausalLM(config)
        if share is not None:
            for name, linear in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]:
                m, n = linear.weight.shape
                model.set_submodule(name, FactorisedLinear(n, rank_at(share, m, n), m), strict=True)
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            weight = torch.empty(parameter.shape, dtype=dtype, device=device)
            if isinstance(module, nn.Linear | nn.Embedding) and name == "weight":
                _fill(weight, block / math.sqrt(weight.shape[1]))
            else:
                weight.fill_(1.0 if name == "weight" else 0.0)
            module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    # its tables are buffers, computed from the config and not on meta
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    return model.eval()


def _fill(weight: torch.Tensor, block: torch.Tensor) -> None:
    flat = weight.view(-1)
    whole = len(flat) // len(block) * len(block)
    flat[:whole].view(-1, len(block)).copy_(block)
    flat[whole:].copy_(block[: len(flat) - whole])
