"""Cells of an invented run, so that no test mistakes them for measurements."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from results.cells import BenchmarkResult, Cell
from results.printed import printed_benchmarks, printed_table

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
