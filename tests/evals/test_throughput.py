"""What is measured is what the settings say, the work is counted right, and random models have the printed sizes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaForCausalLM

from evals.speed import throughput
from evals.speed.machine_limits import MachineLimits, machine_limits
from evals.speed.random_weights import SHAPES, ModelShape, random_weights_model, rank_at, share_for_size
from evals.speed.throughput import SpeedSettings, measure_speed, workload
from impact.compression import parameter_count
from impact.decoding import FusedAttention
from impact.factorisation import FactorisedLinear

SMALL = ModelShape(96, 32, 80, 2, 4, 2)
PAPER_TABLE = Path(__file__).parents[2] / "results" / "paper" / "table14.csv"


@pytest.mark.parametrize("size", sorted(set(pd.read_csv(PAPER_TABLE)["model_size_b"])))
def test_every_printed_size_of_table_14_has_its_ranks(size: float) -> None:
    shape = SHAPES["llama2-7b"]
    if size == 6.74:
        assert shape.parameters() == 6_738_415_616
        return
    share = share_for_size(shape, round(size * 1e9))
    assert round(shape.parameters(share) / 1e9, 2) == size
    assert 0.02 < share < 0.5


def test_the_rank_share_is_the_one_inferred_from_the_printed_sizes() -> None:
    # rho of IMPACT's rows, from the sizes as intercept + slope rho, to the three digits given
    printed = {3.11: 0.287, 2.40: 0.2185, 1.67: 0.148, 1.19: 0.102, 0.75: 0.060}
    for size, share in printed.items():
        assert share_for_size(SHAPES["llama2-7b"], round(size * 1e9)) == pytest.approx(share, abs=6e-4)


def test_a_size_that_no_rank_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="no rank gives"):
        share_for_size(SMALL, 1_000)
    with pytest.raises(ValueError, match="no rank gives"):
        share_for_size(SMALL, 10 * SMALL.parameters())


def test_repeated_numbers_cost_a_large_matrix_no_rank() -> None:
    # 1024 x 2048 is twice the block; of independent numbers the smallest singular value is 0.17 of the largest
    shape = ModelShape(64, 2048, 1024, 1, 16, 16)
    singular = torch.linalg.svdvals(random_weights_model(shape, None, torch.float32).model.layers[0].mlp.up_proj.weight)
    assert singular[-1] > 0.15 * singular[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_random_model_has_its_shape_size_and_dtype_and_computes(dtype: torch.dtype) -> None:
    dense = random_weights_model(SMALL, None, dtype)
    assert parameter_count(dense) == SMALL.parameters()
    assert not any(isinstance(m, FactorisedLinear) for m in dense.modules())
    parameters = SMALL.parameters(0.4)
    model = random_weights_model(SMALL, parameters, dtype)
    assert parameter_count(model) == parameters
    linears = [m for m in model.modules() if isinstance(m, FactorisedLinear)]
    assert sorted((m.up.out_features, m.down.in_features) for m in linears) == sorted(SMALL.linears())
    assert all(m.down.out_features == rank_at(0.4, m.up.out_features, m.down.in_features) for m in linears)
    for each in (dense, model):
        assert {p.dtype for p in each.parameters()} == {dtype}
        assert not any(t.is_meta for t in [*each.parameters(), *each.buffers()])
        logits = each(input_ids=torch.arange(20)[None]).logits
        assert logits.isfinite().all() and logits.float().std() > 0.1


def test_positions_matter_in_a_random_model() -> None:
    # the rotary tables are buffers that a model built on meta could easily be left without
    model = random_weights_model(SMALL, None, torch.float32)
    own = model.model.rotary_emb(torch.zeros(1), torch.arange(9)[None])[0]
    built = LlamaForCausalLM(model.config).model.rotary_emb(torch.zeros(1), torch.arange(9)[None])[0]
    assert torch.equal(own, built) and own.std() > 0.1


def test_a_compressed_model_is_built_without_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    empty = torch.empty

    def counted(*args: object, **kwargs: object) -> torch.Tensor:
        tensor = empty(*args, **kwargs)  # type: ignore[call-overload]
        if not tensor.is_meta:
            made.append(tensor.numel())
        return tensor

    monkeypatch.setattr(torch, "empty", counted)
    model = random_weights_model(SMALL, SMALL.parameters(0.2), torch.float32)
    assert sum(made) == parameter_count(model) < SMALL.parameters() / 2


def halve(model: Any) -> None:
    """Leaves the first layer one head of keys and two of queries."""
    attention = model.model.layers[0].self_attn
    for name, widths in {"q_proj": (32, 16), "k_proj": (32, 8), "v_proj": (32, 8), "o_proj": (16, 32)}.items():
        setattr(attention, name, nn.Linear(*widths, bias=False, dtype=model.dtype))


@pytest.mark.parametrize(("compressed", "heads"), [(False, 8), (True, 8), (False, 6)])
def test_operations_are_those_that_torch_counts(compressed: bool, heads: int) -> None:
    model = random_weights_model(SMALL, SMALL.parameters(0.4) if compressed else None, torch.float32, attention="eager")
    if heads == 6:
        halve(model)
    settings = SpeedSettings(batch_size=3, prompt_tokens=11, new_tokens=5)
    prefill, decode = workload(model, settings)
    ids = torch.zeros(3, 11, dtype=torch.long)
    cache = DynamicCache(config=model.config)
    with torch.no_grad(), FlopCounterMode(display=False) as first:
        model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
    with torch.no_grad(), FlopCounterMode(display=False) as rest:
        for _ in range(4):
            model(input_ids=ids[:, :1], past_key_values=cache)
    # torch counts the masked half of the prompt's square too, and the rotary tables' outer product
    attention = 4 * heads * 8 * 3
    assert prefill.operations == pytest.approx(first.get_total_flops() - attention * (11 * 11 - 66), rel=2e-3)
    assert decode.operations == pytest.approx(rest.get_total_flops(), rel=2e-3)


def test_bytes_are_the_weights_once_a_step_and_the_cache() -> None:
    model = random_weights_model(SMALL, None, torch.bfloat16)
    prefill, decode = workload(model, SpeedSettings(batch_size=3, prompt_tokens=11, new_tokens=3))
    weights = 2 * (SMALL.parameters() - 96 * 32)
    token = 2 * 2 * 2 * 2 * 8  # bytes x (key, value) x layers x heads x head size
    assert prefill.bytes_moved == weights + 3 * 11 * token
    assert decode.bytes_moved == 2 * weights + 3 * (12 + 1 + 13 + 1) * token
    model.lm_head.weight = model.model.embed_tokens.weight
    tied, _ = workload(model, SpeedSettings(batch_size=3, prompt_tokens=11, new_tokens=3))
    assert tied.bytes_moved == prefill.bytes_moved


def test_a_pruned_layer_caches_the_heads_that_it_has() -> None:
    model = random_weights_model(SMALL, None, torch.bfloat16)
    halve(model)
    settings = SpeedSettings(batch_size=3, prompt_tokens=11, new_tokens=3)
    weights = 2 * (parameter_count(model) - 96 * 32)
    token = 2 * 2 * (1 + 2) * 8  # bytes x (key, value) x heads of both layers x head size
    assert workload(model, settings)[0].bytes_moved == weights + 3 * 11 * token


@pytest.mark.parametrize(("route", "fused"), [("growing", False), ("static", False), ("static", True)])
def test_a_measurement_runs_the_model_as_set(
    route: throughput.Route, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SpeedSettings(
        batch_size=2, prompt_tokens=6, new_tokens=4, warmup=1, repetitions=3, route=route, fused=fused
    )
    model = random_weights_model(SMALL, SMALL.parameters(0.3), torch.float32)
    seen: list[tuple[int, ...]] = []
    model.model.embed_tokens.register_forward_hook(lambda _, args, output: seen.append(tuple(args[0].shape)))
    # each reading of the clock is a second later than the one before
    clock = iter(range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(next(clock)))
    limits = MachineLimits(bandwidth=1e6, matrix_rate=1e6, dtype="float32", hardware="invented", threads=1)
    measured = measure_speed(model, settings, limits)
    assert seen == 4 * [(2, 6), (2, 1), (2, 1), (2, 1)]
    assert any(isinstance(m, FusedAttention) for m in model.modules()) == fused
    assert measured.prefill.tokens_per_s.median == 2 * 6 / 1
    assert measured.decode.tokens_per_s.low == measured.decode.tokens_per_s.high == 2 * 3 / 1
    assert measured.total.tokens_per_s.median == 2 * 4 / 2
    assert measured.decode.bandwidth_bound == pytest.approx(6 / (measured.decode.work.bytes_moved / 1e6))
    assert measured.decode.rate_bound == pytest.approx(6 / (measured.decode.work.operations / 1e6))
    assert measured.parameters == parameter_count(model)
    assert measured.weight_memory == 4 * measured.parameters
    assert measured.peak_memory > measured.weight_memory


def test_resident_peak_sees_a_large_tensor_and_forgets_it() -> None:
    """In a process of its own, as points are measured: a long-lived one finds room in memory that it already holds."""
    script = (
        "import torch\nfrom evals.speed.peak_memory import peak_memory, reset_peak\nkind = reset_peak('cpu')\n"
        "before = peak_memory('cpu', kind)\ntensor = torch.ones(2**26)\n"
        "print(kind, peak_memory('cpu', kind) - before)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=plain, capture_output=True, text=True, check=True
    )
    kind, grown = told.stdout.split()
    if kind != "process_resident":
        pytest.skip("this system doesn't let a process reset its peak")
    assert int(grown) == pytest.approx(4 * 2**26, rel=0.1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"new_tokens": 1}, "new_tokens"),
        ({"repetitions": 0}, "repetitions"),
        ({"route": "compile", "warmup": 0}, "warmup"),
    ],
)
def test_settings_that_measure_nothing_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(SpeedSettings(), **change)


def test_limits_are_of_the_dtype_asked_and_do_not_serve_another() -> None:
    limits = machine_limits("cpu", torch.float32, repetitions=2, scale=1 / 64)
    assert limits.dtype == "float32" and limits.bandwidth > 0 and limits.matrix_rate > 0
    assert limits.seconds_to_move(limits.bandwidth) == limits.seconds_to_compute(limits.matrix_rate) == 1
    model: nn.Module = random_weights_model(SMALL, None, torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16"):
        measure_speed(model, SpeedSettings(), limits)  # type: ignore[arg-type]
