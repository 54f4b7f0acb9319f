"""A checkpoint as a user brings one."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and its tokenizer of 61 numbers, in bfloat16; a test that changes it changes a copy."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("brought") / "model"
    words = Tokenizer(models.WordLevel({"[UNK]": 0} | {str(i): i for i in range(1, 61)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="60", pad_token="59").save_pretrained(
        directory
    )
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).bfloat16().save_pretrained(directory)
    return directory
