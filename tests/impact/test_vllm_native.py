"""The native vLLM model gives the tokens that transformers gives; runs where vLLM is installed."""

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vllm
vllm = pytest.importorskip("vllm")

PROMPTS = ([5, 9, 13, 22, 60], [3, 4], [7] * 11)
KINDS = ("mixed", "factorised", "dense head")


def dense(architecture: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    qwen2 = architecture == "qwen2"
    config, causal_lm = (Qwen2Config, Qwen2ForCausalLM) if qwen2 else (LlamaConfig, LlamaForCausalLM)
    torch.manual_seed(0)
    model = causal_lm(
        config(
            vocab_size=61,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2 if architecture == "llama" else 1,
            max_position_embeddings=128,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.15)
    return model.eval()


def kept(kind: str, i: int, name: str) -> int | None:
    stays = {"mixed": i % 4 == 1, "factorised": False, "dense head": name == "lm_head" or i % 5 == 2}[kind]
    return None if stays else 13 + i % 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ("llama", "gqa", "qwen2"))
def test_greedy_tokens_are_those_of_transformers(
    architecture: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from baselines.svd import Svd
    from impact.compression import compress, prepare_units
    from impact.export import export_model
    from impact.vllm_plugin import register

    model = dense(architecture)
    components = dict(prepare_units(Svd(), model, {}))
    compress(model, Svd(), components, {n: kept(kind, i, n) for i, n in enumerate(components)}, {})
    export_model(model, None, tmp_path / "model")
    for name, value in {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind" if (os.cpu_count() or 1) < 2 else "0-1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }.items():
        monkeypatch.setenv(name, value)
    register()
    served = vllm.LLM(
        str(tmp_path / "model"),
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=64,
        max_num_seqs=4,
    )
    sampling = vllm.SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, detokenize=False)
    outputs = served.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], sampling, use_tqdm=False)

    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        ids = torch.tensor([prompt])
        expected = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        assert list(output.outputs[0].token_ids) == expected[0, len(prompt) :].tolist()
