"""A word-level tokenizer whose vocabulary is exactly what the generated problems are written in."""

import re

from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from experiments.miniature.problems import ANSWER_TAIL, THINK, Sizes, generate

PROMPT_HEAD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n"
)
PROMPT_TAIL = "\n\n### Response:"
BOS, EOS, PAD = "<s>", "</s>", "<pad>"

# One token each: the fixed phrases, a word with the space before it, a digit, and any other single character.
PIECE = "|".join(
    [*map(re.escape, (PROMPT_HEAD, PROMPT_TAIL, THINK, ANSWER_TAIL, r"\frac{", "}{")), r" ?[A-Za-z]+", r"[^A-Za-z]"]
)


def _vocabulary() -> list[str]:
    # Taken from the problems themselves, so that no row of lm_head is without gradient.
    rows = generate(seed=0, sizes=Sizes(train=4000, calibration=0, heldout=0, gsm8k=0, math=0))["train"]
    pieces = {piece for row in rows for text in (row["query"], row["response"]) for piece in re.findall(PIECE, text)}
    return [BOS, EOS, PAD, PROMPT_HEAD, PROMPT_TAIL, *sorted(pieces)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer for everything `generate` writes, wrapped in the Alpaca template; it adds BOS like Llama's.

    A word outside the vocabulary becomes PAD: evaluation encodes its stop strings ("USER", ...), so unknown
    words may not raise, and none may occur in a problem.
    """
    vocabulary = {piece: index for index, piece in enumerate(_vocabulary())}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
