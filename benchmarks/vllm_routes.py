"""Throughput of one compressed checkpoint on vLLM's two routes: its native model, and vLLM's transformers backend.

The checkpoint has random weights, every layer but lm_head at the same share of its full rank, since the transformers
backend serves a dense lm_head only. The routes take turns, each time in a process of its own
(evals.speed.vllm_throughput); the ratio is the median over rounds of two measurements side by side. Runs where
vLLM is installed (docs/serving.md):

    .venv-vllm/bin/python benchmarks/vllm_routes.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from evals.speed.random_weights import rank_at
from impact.export import export_model
from impact.factorisation import FactorisedLinear

ROUTES = ("native", "transformers")
AIM = 1.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("vocab-size", 4096),
        ("hidden-size", 512),
        ("intermediate-size", 1376),
        ("layers", 4),
        ("heads", 8),
        ("batch-size", 8),
        ("prompt-tokens", 64),
        ("new-tokens", 64),
        ("repetitions", 5),
        ("rounds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--share", type=float, default=0.25, help="of the full rank in every layer, default 0.25")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    return parser.parse_args()


def write_checkpoint(options: argparse.Namespace, directory: Path) -> None:
    """A random Llama with factorised layers and a dense lm_head."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=options.vocab_size,
            hidden_size=options.hidden_size,
            intermediate_size=options.intermediate_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            max_position_embeddings=options.prompt_tokens + options.new_tokens,
        )
    )
    for name, linear in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"]:
        m, n = linear.weight.shape
        model.set_submodule(name, FactorisedLinear(n, rank_at(options.share, m, n), m))
    export_model(model, None, directory)


def measured(checkpoint: Path, route: str, options: argparse.Namespace) -> dict[str, Any]:
    """evals.speed.vllm_throughput's measurement, from a process of its own."""
    command = [sys.executable, "-m", "evals.speed.vllm_throughput", str(checkpoint), "--route", route]
    for name in ("batch_size", "prompt_tokens", "new_tokens", "repetitions", "dtype"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(ran.stderr[-2000:])
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def main() -> None:
    options = arguments()
    results: dict[str, list[dict[str, Any]]] = {route: [] for route in ROUTES}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(options, checkpoint)
        for _ in range(options.rounds):
            for route in ROUTES:
                results[route].append(measured(checkpoint, route, options))
    rates = {route: [m["total"]["tokens_per_s"]["median"] for m in results[route]] for route in ROUTES}
    ratios = [native / other for native, other in zip(*(rates[route] for route in ROUTES), strict=True)]
    first = results["native"][0]
    table = Table(
        title=f"{first['parameters'] / 1e6:.1f} M parameters, {options.dtype} on {first['hardware']} "
        f"({first['threads']} threads), batch {options.batch_size}, prompts of {options.prompt_tokens}, "
        f"{options.new_tokens} tokens, {options.rounds} rounds"
    )
    for column in ("route", "tokens a second (range)", f"times transformers (range), aim >= {AIM:g}"):
        table.add_column(column, justify="left" if column == "route" else "right")
    for route in ROUTES:
        own = rates[route]
        ratio = f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})" if route == "native" else ""
        table.add_row(route, f"{median(own):.0f} ({min(own):.0f} - {max(own):.0f})", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
