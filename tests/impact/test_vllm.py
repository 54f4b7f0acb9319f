"""vLLM serves compressed checkpoints: the tokens of transformers on both routes, or one clear line.

Runs in the environment of `./reproduce.sh test-vllm`.
"""

import gc
import json
import os
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from baselines.flap import Flap
from baselines.svd import Svd
from impact.compression import compress, prepare_units
from impact.export import export_model
from impact.modeling_impact import CheckpointError

pytestmark = pytest.mark.vllm
vllm = pytest.importorskip("vllm")

ROOT = Path(__file__).parents[2]
VOCABULARY = 61
NEW_TOKENS = 16
# one of a single token, one longer than Mistral's window below
PROMPTS = ([5, 9, 13, 22, 60], [3], [7, 8, 9] * 5)
LONG_ROPE = "phi3 with long rope"
ARCHITECTURES: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "gqa": (
        LlamaConfig,
        LlamaForCausalLM,
        {
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            },
        },
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"num_key_value_heads": 2, "sliding_window": 6}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen2 with windows": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"num_key_value_heads": 2, "head_dim": 64}),
    "gemma3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {
            "num_key_value_heads": 2, "head_dim": 64, "query_pre_attn_scalar": 48, "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "phi3": (Phi3Config, Phi3ForCausalLM, {"num_key_value_heads": 2, "sliding_window": 6, "pad_token_id": None}),
    LONG_ROPE: (
        Phi3Config,
        Phi3ForCausalLM,
        {
            "pad_token_id": None,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
                "short_factor": [1.0 + i / 8 for i in range(12)], "long_factor": [4.0 + i for i in range(12)],
                "original_max_position_embeddings": 64, "factor": 8.0,
            },
        },
    ),
}  # fmt: skip
# Which of a model's Linears stay dense, by number and name.
KINDS: dict[str, Callable[[int, str], bool]] = {
    "factorised": lambda i, name: False,
    "mixed": lambda i, name: i % 4 == 1,
    "dense head": lambda i, name: name == "lm_head" or i % 5 == 2,
    "tied head": lambda i, name: name == "lm_head" or i % 3 == 1,
    "pruned and factorised": lambda i, name: name != "lm_head",
    "pruned": lambda i, name: True,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine in this process, so that its errors are raised here; and nothing left of it afterwards."""
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    gc.collect()


def checkpoint(directory: Path, architecture: str, kind: str) -> Path:
    """A model of random weights, larger than an initialisation's so that no two logits are close."""
    config, causal_lm, extra = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    model = causal_lm(
        config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=kind == "tied head",
            bos_token_id=None,
            eos_token_id=None,
            **extra,
        )
    )
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.15)
    if kind.startswith("pruned"):
        prune(model)
    stays = KINDS[kind]
    components = dict(prepare_units(Svd(), model, {}))
    ranks = {name: None if stays(i, name) else 13 + i % 5 for i, name in enumerate(components)}
    compress(model.eval(), Svd(), components, ranks, {})
    export_model(model, None, directory)
    return directory


def prune(model: Any) -> None:
    """Leaves half of the heads and neurons in the first layer, one head of keys in the last, and others in between."""
    random = torch.Generator().manual_seed(1)
    statistics = {
        unit.name: {
            f"channel_{moment}": torch.rand(model.get_submodule(unit.name).in_features, generator=random)
            for moment in ("mean", "variance")
        }
        for unit in Flap().units(model)
    }
    components = dict(prepare_units(Flap(), model, statistics))
    kept: dict[str, Any] = {name: tuple(range(1, c.shape[1], 2)) for name, c in components.items()}
    kept["model.layers.1.self_attn.o_proj"] = None
    kept["model.layers.1.mlp.down_proj"] = (0, 5, 77)
    kept["model.layers.2.self_attn.o_proj"] = (0,)
    compress(model, Flap(), components, kept, {})


def engine(directory: Path, route: str, **extra: Any) -> Any:
    return vllm.LLM(
        str(directory),
        model_impl="vllm" if route == "native" else "transformers",
        trust_remote_code=route == "transformers",
        skip_tokenizer_init=True,
        max_model_len=64,
        max_num_seqs=4,
        kv_cache_memory_bytes=2**24,
        **{"dtype": "float32", "enforce_eager": True} | extra,
    )


def served(llm: Any) -> list[list[int]]:
    sampling = vllm.SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


@torch.no_grad()
def expected(directory: Path) -> list[list[int]]:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokens = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        tokens.append(output[0, len(prompt) :].tolist())
    return tokens


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        load()
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [(name, kind) for name in ARCHITECTURES for kind in KINDS if name != LONG_ROPE or kind == "mixed"],
)
def test_the_native_model_gives_the_tokens_of_transformers(architecture: str, kind: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", architecture, kind)
    assert served(engine(directory, "native")) == expected(directory)


@pytest.mark.parametrize("kind", ("dense head", "tied head"))
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != LONG_ROPE])
def test_the_transformers_backend_gives_the_tokens_of_transformers(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path / "model", architecture, kind)
    assert served(engine(directory, "transformers")) == expected(directory)


@pytest.mark.parametrize("kind", ("mixed", "pruned"))
def test_the_traced_native_model_gives_the_same_tokens(kind: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", "qwen2", kind)
    # mode 2: vLLM traces the model as for compiling it; run as traced, which needs no compiler
    traced = engine(directory, "native", enforce_eager=False, compilation_config={"mode": 2, "backend": "eager"})
    assert served(traced) == expected(directory)


@pytest.mark.parametrize("kind", ("mixed", "factorised"))
def test_the_native_model_agrees_with_transformers_in_bfloat16(kind: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", "qwen2", kind)
    llm = engine(directory, "native", dtype="bfloat16")
    sampling = vllm.SamplingParams(temperature=0, max_tokens=4, logprobs=1, ignore_eos=True, detokenize=False)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    for prompt in PROMPTS:  # alone, so that a step decodes one token
        (answer,) = llm.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)[0].outputs
        tokens = [*prompt, *answer.token_ids]
        with torch.no_grad():
            logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
        for i, found in enumerate(answer.logprobs, start=len(prompt)):
            assert found[tokens[i]].logprob == pytest.approx(logprobs[i - 1, tokens[i]].item(), abs=0.15)


@pytest.mark.parametrize(("kind", "word"), (("factorised", "factorised lm_head"), ("pruned", "pruned layers")))
def test_the_transformers_backend_refuses_what_it_cannot_serve(kind: str, word: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", "llama", kind)
    assert word in refusal(lambda: engine(directory, "transformers"))


def test_the_cache_holds_the_heads_that_are_left(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", "llama", "pruned")
    cache = engine(directory, "native").llm_engine.vllm_config.cache_config
    heads, size = (2, 4, 1), 32
    page = sum(2 * n * size * 4 * cache.block_size for n in heads)
    assert cache.num_gpu_blocks == 2**24 // page


def test_the_native_model_refuses_adapters(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "model", "llama", "mixed")
    assert "LoRA" in refusal(lambda: engine(directory, "native", enable_lora=True))


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    (
        ("parallel_config.tensor_parallel_size", 2, "tensor parallelism"),
        ("parallel_config.pipeline_parallel_size", 2, "pipeline parallelism"),
        ("quant_config", object(), "quantization"),
        ("model_config.hf_config.hidden_act", "gelu", "gelu"),
        ("model_config.hf_config.attn_logit_softcapping", 50.0, "capped attention scores"),
        ("model_config.hf_config.use_bidirectional_attention", True, "attention to both sides"),
    ),
)
def test_the_native_model_refuses_what_it_cannot_serve(setting: str, value: Any, word: str) -> None:
    from impact.vllm_plugin.model import ImpactForCausalLM

    asked = SimpleNamespace(
        parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        model_config=SimpleNamespace(hf_config=SimpleNamespace(hidden_act="silu"), model="a/name"),
        quant_config=None,
        lora_config=None,
    )
    *path, name = setting.split(".")
    place: Any = asked
    for part in path:
        place = getattr(place, part)
    setattr(place, name, value)
    assert word in refusal(lambda: ImpactForCausalLM(vllm_config=asked))


def reshaped(directory: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.down.weight"
    tensors = {n: t.clone() for n, t in load_file(directory / "model.safetensors").items()}
    tensors[name] = tensors[name][:, 1:].contiguous()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def cut_short(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def pickled(directory: Path) -> None:
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def without_a_rank(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    del config["impact_ranks"]["lm_head"]
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "word"),
    ((reshaped, "has the shape"), (cut_short, "cut short"), (pickled, "pickled"), (without_a_rank, "no rank")),
)
def test_the_native_model_refuses_a_damaged_checkpoint(
    damage: Callable[[Path], None], word: str, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path / "model", "gqa", "factorised")
    damage(directory)
    assert word in refusal(lambda: engine(directory, "native"))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A token a character, whose text does not depend on the tokens around it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    characters = ["[UNK]", "[END]", *string.ascii_lowercase, *string.digits, *" .:?#'QRAI\n"]
    characters += list("TWUEXYBCDFGHJKLMNOPSVZ")[: VOCABULARY - len(characters)]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]", pad_token="[END]")


def test_lm_eval_sees_the_same_completions_through_transformers_and_vllm(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path / "model", "qwen2", "mixed")
    tokenizer.save_pretrained(directory)
    problems = tmp_path / "test.jsonl"
    questions = ("how many apples are left?", "how much is 3 times 4?", "what is 7 less than 12?")
    problems.write_text("".join(json.dumps({"question": q, "answer": "#### 3"}) + "\n" for q in questions))
    completions = {}
    for model, arguments in (
        ("hf", "trust_remote_code=True,dtype=float32"),
        ("vllm", "dtype=float32,enforce_eager=True,max_model_len=512,kv_cache_memory_bytes=16777216"),
    ):
        command = [sys.executable, "-m", "lm_eval", "run", "--model", model, "--device", "cpu", "--batch_size", "1"]
        command += ["--model_args", f"pretrained={directory},{arguments}", "--include_path", str(ROOT / "evals/tasks")]
        command += ["--tasks", "impact_gsm8k", "--metadata", json.dumps({"data_file": str(problems)})]
        command += ["--gen_kwargs", "max_gen_toks=24", "--log_samples", "--output_path", str(tmp_path / model)]
        environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # as vLLM has it by itself
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-4000:]
        (samples,) = (tmp_path / model).rglob("samples_impact_gsm8k*.jsonl")
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        completions[model] = {row["doc"]["task_id"]: row["filtered_resps"][0] for row in rows}
    assert len(completions["hf"]) == len(questions)
    assert any(len(text) == 24 for text in completions["hf"].values())
    assert completions["vllm"] == completions["hf"]


@pytest.mark.parametrize("kind", ("mixed", "pruned"))
def test_a_measurement_of_vllm_is_a_point_of_table_14(kind: str, tmp_path: Path) -> None:
    from results.measured.speed_points import speed_point

    directory = checkpoint(tmp_path / "model", "gqa", kind)
    command = [sys.executable, "-m", "evals.speed.vllm_throughput", str(directory), "--route", "native"]
    command += ["--batch-size", "2", "--prompt-tokens", "6", "--new-tokens", "5", "--repetitions", "2"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    point = speed_point(json.loads(ran.stdout), "impact", 1, engine="vllm")
    assert point.route == "vllm native"
    assert point.parameters == sum(t.numel() for t in load_file(directory / "model.safetensors").values())
    assert point.prefill is None
    assert point.decode is None
    assert point.memory_gb > point.weights_gb


def test_what_holds_no_weights_is_not_measured(tmp_path: Path) -> None:
    from evals.speed.vllm_throughput import SpeedSettings, measure_serving

    with pytest.raises(ValueError, match="holds no safetensors"):
        measure_serving(tmp_path, SpeedSettings(), "float32", "native")
