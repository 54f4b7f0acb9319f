"""Cells of an invented run, so that no test mistakes them for measurements."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from results.measured.cells import BenchmarkResult, Cell
from results.measured.quantized_cells import QuantizedCell
from results.numbers.printed import printed_benchmarks, printed_table

MakeCells = Callable[..., list[Cell]]


@pytest.fixture
def table6_cells() -> MakeCells:
    """All cells of a table for a 1 M parameter model whose accuracies (in %) are the printed ones, moved by ``shift``.

    With ``nested``, all models share one order of difficulty and differ by the problems at the margin only; without,
    each model solves problems of its own.
    """

    def make(
        n: int = 500,
        seeds: tuple[int, ...] = (0,),
        shift: Mapping[tuple[str, int], float] | None = None,
        nested: bool = True,
        number: int = 6,
    ) -> list[Cell]:
        rng = np.random.default_rng(3)
        order = rng.permutation(n)
        cells = []
        benchmarks_of_table = printed_benchmarks(number)
        dense_size = printed_table(number)["model_size_b"].max()
        for point in printed_table(number).to_dict("records"):
            method, row = str(point["method"]), int(point["row"])
            moved = (shift or {}).get((method, row), 0.0)
            for seed in seeds:
                benchmarks = {}
                for name in benchmarks_of_table:
                    order = order if nested else rng.permutation(n)
                    share = np.clip(point[f"{name}_acc"] + moved + seed, 0, 100) / 100
                    correct = [bool(rank < round(share * n)) for rank in order]
                    benchmarks[name] = BenchmarkResult(n=n, correct=correct)
                cells.append(
                    Cell(
                        method=method,
                        row=row,
                        keep_pct=100.0 if row == 0 else 80.0 - 10 * row,
                        rank_rule="dense" if row == 0 else "target" if method == "asvd" else "nuclear",
                        eta=0.25 if method == "impact" else None,
                        seed=seed,
                        parameters=round(point["model_size_b"] / dense_size * 1_054_321),
                        dense_parameters=1_054_321,
                        ppl_before_sft=dict.fromkeys(benchmarks_of_table, 30.0),
                        ppl_after_sft=dict.fromkeys(benchmarks_of_table, 3.0),
                        benchmarks=benchmarks,
                        runs={"evaluate": f"{method}-{row}-{seed}"},
                    )
                )
        return cells

    return make


@pytest.fixture
def provenance() -> dict[str, str]:
    return {"preset": "tiny", "model": "invented 1 M Llama", "date": "2026-01-02", "command": "./reproduce.sh table6"}


@pytest.fixture
def quantized_cells() -> Callable[..., list[QuantizedCell]]:
    """All cells of Table 1, 2 or 3 for a 1 M parameter model whose accuracies (in %) are the printed ones plus shift.

    Before quantization a model is better by the points that ``lost`` gives its method, else by 3 (the dense one by none
    in 8 bits and by 20 in 4). All models share one order of difficulty and differ by the problems at the margin only.
    """

    def make(
        number: int = 1,
        n: int = 1000,
        seeds: tuple[int, ...] = (0,),
        shift: Mapping[tuple[str, int], float] | None = None,
        lost: Mapping[str, float] | None = None,
    ) -> list[QuantizedCell]:
        order = np.random.default_rng(3).permutation(n)
        points_lost = {"dense": 0.0, "quantized": 20.0} | dict(lost or {})

        def result(percent: float) -> BenchmarkResult:
            solved = round(float(np.clip(percent, 0, 100)) / 100 * n)
            return BenchmarkResult(n=n, correct=[bool(rank < solved) for rank in order])

        cells = []
        for line in printed_table(number).to_dict("records"):
            model = {1: "7b", 2: "13b"}.get(number) or str(line["model"]).removeprefix("llama-2-")
            method, row, bits = str(line["method"]), int(line.get("row", 1)), int(line["bits"])
            nominal = round(line["model_size_gb"] / {"7b": 6.74, "13b": 13.02}[model] * 1_054_321)
            after = {name: line[f"{name}_acc"] + (shift or {}).get((method, row), 0.0) for name in ("gsm8k", "math")}
            cells += [
                QuantizedCell(
                    model=model,
                    method=method,
                    row=row,
                    keep=None if row == 0 or bits == 4 else 80.0 - 10 * row,
                    rank_rule="dense" if row == 0 or bits == 4 else "nuclear",
                    eta=0.25 if method == "impact" else None,
                    bits=bits,
                    scheme="llm.int8" if bits == 8 else "nf4",
                    gauge="as trained",
                    seed=seed,
                    parameters=nominal * 8 // bits,
                    dense_parameters=1_054_321,
                    nominal_bytes=nominal,
                    file_bytes=nominal + 100_000,
                    memory_bytes=nominal + 200_000,
                    perplexity={"gsm8k": 3.0, "math": 4.0},
                    unquantized_perplexity={"gsm8k": 2.0},
                    benchmarks={name: result(percent) for name, percent in after.items()},
                    unquantized={}
                    if method == "qlora"
                    else {name: result(percent + points_lost.get(method, 3.0)) for name, percent in after.items()},
                    runs={"quantize": f"{model}-{method}-{row}-{seed}"},
                )
                for seed in seeds
            ]
        return cells

    return make
