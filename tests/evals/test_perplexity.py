import math

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.benchmarks import SftRow
from evals.perplexity import response_perplexity
from evals.prompts import training_prompt
from evals.tokenisation import IGNORED_LABEL, tokenise_row

ROWS: list[SftRow] = [
    {"query": "3 : 4", "response": "The answer is : 7"},
    {"query": "Write\n1 2 3", "response": "5 " * 30},
    {"query": "9", "response": "0"},
    {"query": "Question : 1 2 3 4 5 6", "response": "12 13 14"},
]


def naive_perplexity(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, max_length: int) -> float:
    """Row by row and token by token, in float64."""
    model = model.double()
    losses: list[float] = []
    for row in ROWS:
        prompt_length = len(tokenizer(training_prompt(row)).input_ids)
        ids = tokenizer(training_prompt(row) + row["response"] + "</s>").input_ids[:max_length]
        with torch.no_grad():
            log_likelihood = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-log_likelihood[t - 1, ids[t]].item() for t in range(prompt_length, len(ids))]
    model.float()
    return math.exp(sum(losses) / len(losses))


@pytest.mark.parametrize("max_length", [50, 512])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_equals_the_naive_loop(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int, max_length: int
) -> None:
    expected = naive_perplexity(model, tokenizer, max_length)
    model.train()
    measured = response_perplexity(model, tokenizer, ROWS, batch_size=batch_size, max_length=max_length)
    assert measured == pytest.approx(expected, rel=1e-5)
    assert model.training


def test_order_of_rows_and_padding_side_do_not_matter(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    forward = response_perplexity(model, tokenizer, ROWS, batch_size=2, max_length=512)
    tokenizer.padding_side = "left"
    backward = response_perplexity(model, tokenizer, ROWS[::-1], batch_size=2, max_length=512)
    tokenizer.padding_side = "right"
    assert backward == pytest.approx(forward, rel=1e-6)


def test_no_response_token_is_an_error(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="no response token"):
        response_perplexity(model, tokenizer, ROWS, batch_size=2, max_length=5)
    with pytest.raises(ValueError, match="no response token"):
        response_perplexity(model, tokenizer, [], batch_size=2, max_length=512)


def test_labels_cover_the_response_and_eos_only(tokenizer: PreTrainedTokenizerFast) -> None:
    row = tokenise_row(tokenizer, {"query": "3 : 4", "response": "The answer is : 7"}, 512)
    labelled = [label for label in row.labels if label != IGNORED_LABEL]
    assert tokenizer.convert_ids_to_tokens(labelled) == ["The", "answer", "is", ":", "7", "</s>"]
    assert row.input_ids[0] == tokenizer.bos_token_id and row.input_ids.count(tokenizer.bos_token_id) == 1
    assert (
        row.labels.count(IGNORED_LABEL)
        == len(row.labels) - 6
        == len(tokenizer(training_prompt({"query": "3 : 4"})).input_ids)
    )
    assert row.input_ids[-6:] == labelled


def test_truncation(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = tokenise_row(tokenizer, {"query": "3 : 4", "response": "The answer is : 7"}, 512)
    cut = tokenise_row(tokenizer, {"query": "3 : 4", "response": "The answer is : 7"}, len(whole.input_ids) - 2)
    assert (cut.input_ids, cut.labels) == (whole.input_ids[:-2], whole.labels[:-2])
    prompt_only = tokenise_row(tokenizer, {"query": "3 : 4", "response": "The answer is : 7"}, 5)
    assert prompt_only.labels == [IGNORED_LABEL] * 5


def test_a_tokenizer_without_eos_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    with pytest.raises(ValueError, match="no eos token"):
        tokenise_row(bare, {"query": "q", "response": "r"}, 512)


def test_boundary_follows_the_concatenation() -> None:
    """A tokenizer that merges the colon of "### Response:" with what follows it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({"<unk>": 0, ":": 1, ":7": 2, "</s>": 3, "8": 4}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"</s>|:?\d|:| |[^:\d ]+"), behavior="isolated")
    merging = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")
    row = tokenise_row(merging, {"query": "q", "response": "78"}, 512)
    # ":7" stands where the prompt alone has ":", so it is masked, as in MetaMath
    assert row.input_ids[-3:] == [2, 4, 3]
    assert row.labels[-3:] == [IGNORED_LABEL, 4, 3]
