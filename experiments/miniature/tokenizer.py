"""Word-level tokenizers, each with exactly the vocabulary that the problems of its domain are written in."""

import re

from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from experiments.miniature.domains import DOMAINS, generate
from experiments.miniature.splits import Sizes

PROMPT_HEAD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n"
)
PROMPT_TAIL = "\n\n### Response:"
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def _piece(domain: str) -> str:
    """Regular expression of one token: a half of the template, a phrase of the domain or any other piece of it."""
    phrases = (PROMPT_HEAD, PROMPT_TAIL, *DOMAINS[domain].phrases)
    return "|".join([*map(re.escape, phrases), DOMAINS[domain].pieces])


def _vocabulary(domain: str) -> list[str]:
    # Taken from the problems themselves, so that no row of lm_head is without gradient.
    rows = generate(domain, seed=0, sizes=Sizes(train=4000, calibration=0, heldout=0, test=0))["train"]
    piece = re.compile(_piece(domain))
    pieces = {found for row in rows for text in (row["query"], row["response"]) for found in piece.findall(text)}
    return [BOS, EOS, PAD, PROMPT_HEAD, PROMPT_TAIL, *sorted(pieces)]


def build_tokenizer(domain: str) -> PreTrainedTokenizerFast:
    """Tokenizer for everything `generate` writes in the domain, wrapped in the Alpaca template; it adds BOS like Llama.

    A word outside the vocabulary becomes PAD: evaluation encodes its stop strings ("USER", ...), so unknown
    words may not raise, and none may occur in a problem.
    """
    vocabulary = {piece: index for index, piece in enumerate(_vocabulary(domain))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = Split(Regex(_piece(domain)), behavior="isolated")
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
