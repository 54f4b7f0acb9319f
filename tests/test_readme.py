"""README's program runs, and what it shows of the code is so."""

import json
import re
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.commands.catalogue import COMMANDS
from experiments.commands.reference import with_pipeline
from experiments.miniature.tokenizer import build_tokenizer
from experiments.tables.target import targets

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_program_compresses_a_model(tmp_path: Path) -> None:
    tokenizer: PreTrainedTokenizerFast = build_tokenizer("mathematics")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    dense = LlamaForCausalLM(config)
    dense.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    texts = ["1 + 2 = 3", "what is 4 + 5", "the answer is : 9"]
    names = {"MODEL": str(tmp_path / "dense"), "TEXTS": texts}
    exec(program.replace('"smaller"', json.dumps(str(tmp_path / "smaller"))), names)
    smaller = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller", trust_remote_code=True)
    assert smaller.num_parameters() < dense.num_parameters()


def test_what_it_names_is_there() -> None:
    assert with_pipeline(README) == README
    called = re.findall(r"^\| `([a-z0-9-]+)", README, re.MULTILINE)
    assert len(called) == 5 and {*called} <= {*COMMANDS, *targets()}
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link
    assert len(README.split()) <= 900
