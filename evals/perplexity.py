"""Perplexity of held-out responses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.tokenisation import IGNORED_LABEL, padded_batches
from impact.calibration import Batch


def response_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    max_length: int,
) -> float:
    """Perplexity per response token over all rows together; prompt tokens are masked, eos counts.

    Raises ValueError if no response token is left (no rows, or prompts that fill `max_length`).
    """
    return perplexity(model, (Batch(*tensors) for tensors in padded_batches(tokenizer, rows, batch_size, max_length)))


@torch.inference_mode()
def perplexity(model: nn.Module, batches: Iterable[Batch]) -> float:
    """exp of the mean negative log-likelihood of all tokens that have a label; every one weighs the same.

    The model's logits are taken to float32 before the log-softmax, sums are
    float64. The model is put in eval mode for the call. Raises ValueError if no token has a label.
    """
    was_training = model.training
    model.eval()
    total = 0.0
    tokens = 0
    try:
        for batch in (batch.to(next(model.parameters()).device) for batch in batches):
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            targets = batch.labels[:, 1:]
            counted = targets != IGNORED_LABEL
            # selecting first keeps the float32 copy to the response tokens: (counted, vocabulary)
            log_likelihood = torch.log_softmax(logits[:, :-1][counted].float(), dim=-1)
            total -= log_likelihood.gather(-1, targets[counted][:, None]).sum(dtype=torch.float64).item()
            tokens += int(counted.sum())
    finally:
        model.train(was_training)
    if tokens == 0:
        raise ValueError("no response token to measure: no rows, or every prompt fills max_length")
    return math.exp(total / tokens)
