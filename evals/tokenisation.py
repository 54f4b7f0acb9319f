"""One tokenisation of training rows, shared by SFT, calibration and held-out perplexity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from evals.prompts import training_prompt

IGNORED_LABEL = -100
"""Label of positions that carry no loss."""


@dataclass(frozen=True)
class TokenisedRow:
    """Token ids and labels of one row, equally long; labels are the ids, or -100 on the prompt."""

    input_ids: list[int]
    labels: list[int]

    @property
    def teaches(self) -> bool:
        """Whether a token of the response is left that the tokens before it predict."""
        return any(label != IGNORED_LABEL for label in self.labels[1:])


def tokenise_row(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], max_length: int) -> TokenisedRow:
    """Tokenise a training row {query, response} as MetaMath does (train_math.py), at most `max_length` tokens.

    The concatenation prompt + response + eos is tokenised as one text, and as many leading labels are masked as the
    prompt has tokens when tokenised alone. The tokens around the boundary are those of the concatenation: the
    response has no leading space, and a tokeniser may merge across the boundary. Special tokens are the tokeniser's
    default (bos for Llama). Raises ValueError for a tokeniser without an eos token.
    """
    if not isinstance(tokenizer.eos_token, str):
        raise ValueError("the tokenizer has no eos token, which ends every response")
    prompt = training_prompt(row)
    text = prompt + row["response"] + tokenizer.eos_token
    input_ids: list[int] = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    prompt_length = min(len(_whole(tokenizer, prompt)), len(input_ids))
    return TokenisedRow(input_ids, [IGNORED_LABEL] * prompt_length + input_ids[prompt_length:])


def _whole(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text of any length, without a word on standard error about what a model could take."""
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return ids


class NothingFitsError(ValueError):
    """Of no row is anything of the response left; `shortest` is the number of tokens of the shortest prompt."""

    def __init__(self, shortest: int) -> None:
        super().__init__(f"nothing of a response is left in any row: the shortest prompt has {shortest} tokens")
        self.shortest = shortest


@dataclass(frozen=True)
class Fitted:
    """Rows that something is left to learn from within a limit on tokens, how many were cut, and how many are gone."""

    rows: list[TokenisedRow]
    cut: int
    dropped: int


def fitted(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], max_length: int) -> Fitted:
    """Tokenised rows, without those of whose response nothing is left.

    Raises NothingFitsError where that are all, and ValueError as `tokenise_row` does.
    """
    tokenised = [tokenise_row(tokenizer, row, max_length) for row in rows]
    left = [(row, given) for row, given in zip(tokenised, rows, strict=True) if row.teaches]
    if not left:
        raise NothingFitsError(min(len(_whole(tokenizer, training_prompt(row))) for row in rows))
    whole = (tokenise_row(tokenizer, given, max_length + 1) for row, given in left if len(row.input_ids) >= max_length)
    cut = sum(len(row.input_ids) > max_length for row in whole)
    return Fitted([row for row, _ in left], cut, len(rows) - len(left))


def padded_batches(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], batch_size: int, max_length: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Right-padded input ids, attention mask and labels, each (batch, longest), rows of like length together.

    The id on padded positions is 0: it is masked out, so any valid one does.
    """
    return padded((tokenise_row(tokenizer, row, max_length) for row in rows), batch_size)


def padded(rows: Iterable[TokenisedRow], batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The batches of `padded_batches` of rows that are tokenised already."""
    tokenised = sorted(rows, key=lambda row: len(row.input_ids))
    for start in range(0, len(tokenised), batch_size):
        chunk = tokenised[start : start + batch_size]
        shape = (len(chunk), max(len(row.input_ids) for row in chunk))
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED_LABEL)
        for i, row in enumerate(chunk):
            length = len(row.input_ids)
            ids[i, :length] = torch.tensor(row.input_ids)
            mask[i, :length] = 1
            labels[i, :length] = torch.tensor(row.labels)
        yield ids, mask, labels
