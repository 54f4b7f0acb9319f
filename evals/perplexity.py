"""Perplexity of held-out responses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.tokenisation import IGNORED_LABEL, padded_batches


@torch.inference_mode()
def response_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    max_length: int,
) -> float:
    """Perplexity per response token over all rows together: exp of the mean negative log-likelihood.

    Prompt tokens are masked, eos counts, every token weighs the same whatever its row. The model's logits are taken
    to float32 before the log-softmax, sums are float64. The model is put in eval mode for the call.
    Raises ValueError if no response token is left (no rows, or prompts that fill `max_length`).
    """
    was_training = model.training
    model.eval()
    total = 0.0
    tokens = 0
    try:
        for batch in padded_batches(tokenizer, rows, batch_size, max_length):
            ids, mask, labels = (tensor.to(model.device) for tensor in batch)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            targets = labels[:, 1:]
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
