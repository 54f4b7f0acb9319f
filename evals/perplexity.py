"""Perplexity of held-out responses."""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.benchmarks import SftRow
from evals.tokenisation import IGNORED_LABEL, TokenisedRow, tokenise_row


def _padded(rows: Sequence[TokenisedRow], pad_id: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Right-padded input ids, attention mask and labels, each (batch, longest)."""
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED_LABEL)
    for i, row in enumerate(rows):
        length = len(row.input_ids)
        ids[i, :length] = torch.tensor(row.input_ids)
        mask[i, :length] = 1
        labels[i, :length] = torch.tensor(row.labels)
    return ids.to(device), mask.to(device), labels.to(device)


@torch.inference_mode()
def response_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[SftRow],
    *,
    batch_size: int,
    max_length: int,
) -> float:
    """Perplexity per response token over all rows together: exp of the mean negative log-likelihood.

    Prompt tokens are masked, eos counts, every token weighs the same whatever its row. The model's logits are taken
    to float32 before the log-softmax, sums are float64. The model is put in eval mode for the call.
    Raises ValueError if no response token is left (no rows, or prompts that fill `max_length`).
    """
    # long rows together, so that little is padding; the result does not depend on the order
    tokenised = sorted(
        (tokenise_row(tokenizer, row["query"], row["response"], max_length) for row in rows),
        key=lambda row: len(row.input_ids),
    )
    was_training = model.training
    model.eval()
    total = 0.0
    tokens = 0
    try:
        for start in range(0, len(tokenised), batch_size):
            # the id on padded positions is masked out, so any valid one does
            ids, mask, labels = _padded(tokenised[start : start + batch_size], 0, model.device)
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
