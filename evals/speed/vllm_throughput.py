"""How fast and in how much memory vLLM serves a checkpoint, in the form of evals.speed.throughput.SpeedMeasurement.

    python -m evals.speed.vllm_throughput CHECKPOINT --batch-size 8 --prompt-tokens 128 --new-tokens 128 --route native

prints one JSON object to standard output; everything that vLLM says goes to standard error. It runs where vLLM is
installed (docs/serving.md) and imports nothing that such an environment lacks. vLLM does not tell prefill and decoding
apart, so both are null. All requests of a batch are handed over at once; the cache holds just them, and is no prefix
cache. On a CPU a model runs as it is; on a GPU vLLM compiles it and records graphs.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import safe_open
from transformers import AutoConfig

from evals.speed.machine_limits import hardware_name
from evals.speed.peak_memory import peak_memory, reset_peak
from evals.speed.throughput import SpeedSettings, Spread

Route = Literal["native", "transformers"]
"""vLLM's own model of an architecture, or its backend for models of transformers."""

# Tokens in a block of the cache: vLLM's own choice on a CPU, and a multiple of that on a GPU.
_BLOCK = 128
_NUMBERS = ("batch_size", "prompt_tokens", "new_tokens", "warmup", "repetitions")
# In one process, so that its memory is the model's; threads as torch has them; nothing sent anywhere.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


def measure_serving(checkpoint: Path, settings: SpeedSettings, dtype: str, route: Route) -> dict[str, Any]:
    """What results.speed.speed_point reads, for a local checkpoint. `settings.route` and `.fused` don't apply.

    Sets environment variables that vLLM reads, for the rest of the process. Raises ValueError if the directory holds no
    safetensors, and whatever vLLM raises for a checkpoint that it can't serve.
    """
    parameters = stored_parameters(checkpoint)
    os.environ.update(_ENVIRONMENT)
    from vllm import LLM, SamplingParams

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=route == "transformers")
    rows, length = settings.batch_size, settings.prompt_tokens + settings.new_tokens
    precision: torch.dtype = getattr(torch, dtype)
    token_bytes = _cache_bytes(config) * precision.itemsize
    # beside each request's blocks: one of a batch that has just ended, and one that vLLM keeps for itself
    blocks = rows * -(-length // _BLOCK) + 2
    place = "cuda" if torch.cuda.is_available() else "cpu"
    engine = LLM(
        str(checkpoint),
        dtype=dtype,
        model_impl="vllm" if route == "native" else "transformers",
        trust_remote_code=route == "transformers",
        skip_tokenizer_init=True,
        enforce_eager=place == "cpu",
        max_model_len=length,
        max_num_seqs=rows,
        kv_cache_memory_bytes=blocks * _BLOCK * token_bytes,
        enable_prefix_caching=False,
        seed=settings.seed,
    )
    generator = torch.Generator().manual_seed(settings.seed)
    ids = torch.randint(0, config.vocab_size, (rows, settings.prompt_tokens), generator=generator)
    prompts = [{"prompt_token_ids": row} for row in ids.tolist()]
    sampling = SamplingParams(temperature=0, max_tokens=settings.new_tokens, ignore_eos=True, detokenize=False)

    def rate() -> float:
        start = time.perf_counter()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        if tokens != rows * settings.new_tokens:
            raise RuntimeError(f"vLLM generated {tokens} tokens, {rows * settings.new_tokens} were asked for")
        return tokens / seconds

    kind = reset_peak(place)
    for _ in range(settings.warmup):
        rate()
    rates = [rate() for _ in range(settings.repetitions)]
    return {
        "settings": asdict(settings) | {"route": route, "fused": False},
        "dtype": dtype,
        "device": place,
        "hardware": hardware_name(place),
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "prefill": None,
        "decode": None,
        "total": {"tokens_per_s": asdict(Spread.of(rates)), "bandwidth_bound": None, "rate_bound": None},
        "peak_memory": peak_memory(place, kind),
        "memory_kind": kind,
        "weight_memory": parameters * precision.itemsize,
        "cache_memory": blocks * _BLOCK * token_bytes,
        "limits": None,
    }


def stored_parameters(checkpoint: Path) -> int:
    """The number of parameters in a directory's safetensors files. Raises ValueError if there is no such file."""
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{checkpoint} holds no safetensors")
    total = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            names = tensors.keys()
            total += sum(torch.Size(tensors.get_slice(name).get_shape()).numel() for name in names)
    return total


def _cache_bytes(config: Any) -> int:
    """Keys and values of one token, in numbers."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pruned, full = getattr(config, "impact_pruned", None) or {}, {"in_features": config.num_attention_heads * head}
    readers = [pruned.get(f"model.layers.{i}.self_attn.o_proj", full) for i in range(config.num_hidden_layers)]
    # each head of keys serves as many of queries, pruned or not
    queries = sum(reader["in_features"] for reader in readers)
    return 2 * queries * config.num_key_value_heads // config.num_attention_heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a directory, compressed or dense")
    numbers = {name: getattr(SpeedSettings, name) for name in _NUMBERS}
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--route", default="native", choices=get_args(Route))
    options = parser.parse_args()
    # vLLM and the libraries below it write to standard output themselves
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        settings = SpeedSettings(**{name: getattr(options, name) for name in numbers})
        measured = measure_serving(options.checkpoint, settings, options.dtype, options.route)
    except ValueError as error:
        sys.exit(f"vllm_throughput: {error}")
    os.write(answers, (json.dumps(measured) + "\n").encode())


if __name__ == "__main__":
    main()
