import os
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
