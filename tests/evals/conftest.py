import ast
import io
import os
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data slices; the test is skipped where there is none."""
    shared = os.environ.get("IMPACT_SHARED")
    folder = (Path(shared) if shared else Path(__file__).parents[2].parent / "shared") / "data"
    if not folder.is_dir():
        pytest.skip("no real data slices (set IMPACT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer that puts <s> in front, as Llama's does."""
    words = ["<pad>", "<unk>", "<s>", "</s>", "Question", "The", "answer", "is", ":", "response", "Response", "#"]
    words += ["Instruction", "Write", *map(str, range(20))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Randomly initialised Llama of some 20 thousand parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


SWAPS = {"+": "-", "-": "+", "*": "+", "<": ">=", ">": "<=", "<=": ">", ">=": "<", "==": "!=", "!=": "==", "//": "*"}
SWAPS |= {"and": "or", "or": "and", "True": "False", "False": "True", "not": "", "min": "max", "max": "min", "%": "*"}


def mutants(source: str) -> Iterator[str]:
    """The source with one token changed: an operator, a constant, or an expression returned."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for i, token in enumerate(tokens):
        changed = SWAPS.get(token.string) if token.type in (tokenize.OP, tokenize.NAME) else None
        if token.type == tokenize.NUMBER:
            changed = f"({token.string}+1)"
        elif token.type == tokenize.NAME and token.string == "return":
            changed = "return None and"
        if changed is not None:
            lines = source.splitlines(keepends=True)
            row, column = token.start[0] - 1, token.start[1]
            lines[row] = lines[row][:column] + changed + lines[row][tokens[i].end[1] :]
            try:
                ast.parse("".join(lines))
            except SyntaxError:
                continue
            yield "".join(lines)


def fails_plainly(program: str, tests: str) -> bool:
    """Whether a plain interpreter ends the program with its tests in an error: the judgement to agree with."""
    command = [sys.executable, "-I", "-S", "-c", f"{program}\n{tests}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=3, check=False).returncode != 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="session")
def failing_mutant() -> Callable[[str, int, str], str | None]:
    """The first mutant of a program that a plain interpreter sees fail its tests, if there is one among twelve.

    As many characters as `head` stay: a prompt is not the completion's to change.
    """

    def first(program: str, head: int, tests: str) -> str | None:
        for mutant in islice(mutants(program), 12):
            if mutant[:head] == program[:head] and fails_plainly(mutant, tests):
                return mutant
        return None

    return first
