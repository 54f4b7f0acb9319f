"""8-bit and 4-bit weights with bitsandbytes, as transformers stores and loads them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bitsandbytes.functional import int8_vectorwise_dequant
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from impact.export import export_model

LLM_INT8, WEIGHT_ONLY, NF4 = "llm.int8", "int8 weight-only", "nf4"
"""The schemes.

llm.int8: weights and activations in 8 bits, activations beyond 6 in 16 (Dettmers et al. 2022). int8 weight-only: the
same stored weights, one scale an output channel, in products with unquantized activations. nf4: 4-bit NormalFloat in
blocks of 64 whose scales are quantized again (Dettmers et al. 2023).
"""


def save_quantized(
    model: PreTrainedModel, directory: Path, scheme: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Writes a dense or compressed model with its Linears quantized: a Hugging Face directory that loads anywhere.

    As bitsandbytes has it, lm_head, embeddings, norms and biases are not quantized; they are stored in `dtype`. Raises
    CheckpointError for an architecture that impact.export has no form for, ValueError for an unknown scheme.
    """
    if scheme not in (LLM_INT8, WEIGHT_ONLY, NF4):
        raise ValueError(f"no quantization '{scheme}': there are {LLM_INT8}, {WEIGHT_ONLY}, {NF4}")
    four_bit = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    bits: dict[str, Any] = {"load_in_4bit": True, **four_bit} if scheme == NF4 else {"load_in_8bit": True}
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory) as folder:
        export_model(model, None, Path(folder) / "full", dtype=dtype, recipe={"quantization": scheme})
        quantized = AutoModelForCausalLM.from_pretrained(
            Path(folder) / "full",
            dtype=dtype,
            quantization_config=BitsAndBytesConfig(**bits),
            device_map={"": device},
            trust_remote_code=False,
        )
    quantized.save_pretrained(directory)


def load_quantized(
    directory: Path, dtype: torch.dtype, attention: str, device: torch.device, adapter: Path | None = None
) -> PreTrainedModel:
    """The model of `save_quantized`, in eval mode. adapter: a LoRA adapter of PEFT, which is not merged.

    dtype: of all that is not quantized, and of the results of every layer.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation=attention, device_map={"": device}, trust_remote_code=False
    )
    if model.config.impact_recipe["quantization"] == WEIGHT_ONLY:
        _keep_activations(model)
    if adapter is not None:
        model.load_adapter(str(adapter))
    return model.eval()


def _keep_activations(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Linear8bitLt):
            module.__class__ = _WeightOnlyLinear


class _WeightOnlyLinear(Linear8bitLt):
    """The int8 weights in products with unquantized activations."""

    def forward(self, x: Tensor) -> Tensor:
        weight: Any = self.weight
        if weight.CB is not None:
            self.init_8bit_state()
        scales: Any = self.state.SCB
        W = int8_vectorwise_dequant(weight.data, scales)
        return F.linear(x, W.to(x.dtype), self.bias)
