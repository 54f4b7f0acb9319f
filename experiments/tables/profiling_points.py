"""From finished jobs to the points of Table 5, and what they would cost at the paper's size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baselines.registry import build_method
from evals.speed.profiling_work import ProfilingWork, carried_over
from evals.speed.random_weights import SHAPES
from experiments.jobs.job import Job
from experiments.stages.configs import ProfilingCostConfig
from experiments.stages.models import DTYPES
from experiments.stages.speed import model_shape
from results.measured.profiling_points import Extrapolation, ProfilingConditions, ProfilingPoint

# What the printed times are for; the candidates are those of ASVD's own search, and the printed 136 hours fit one
# evaluation of the whole calibration set for each of them.
PAPER_SHAPE, PAPER_ROWS, PAPER_TOKENS = "llama2-13b", 3950, 250
PAPER_CANDIDATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
EXTRAPOLATED_TO = (
    f"Llama 2-13B with {PAPER_ROWS:,} rows of {PAPER_TOKENS} tokens, ASVD's search with {len(PAPER_CANDIDATES)} "
    "candidates a layer, each evaluated on all rows"
)


def measured_point(job: Job, measured: Mapping[str, Any]) -> ProfilingPoint:
    """The point of a finished job; what it would cost at the paper's size is counted where that is another."""
    config = job.config
    assert isinstance(config, ProfilingCostConfig)
    load = config.load
    work, other = work_of(config), papers_work_of(config)
    itemsize = DTYPES[load.precision].itemsize
    return ProfilingPoint(
        method=config.method,
        implementation=config.implementation,
        conditions=ProfilingConditions(
            rows=load.rows,
            tokens=load.tokens,
            batch_size=load.batch_size,
            **{name: measured[name] for name in ("parameters", "dtype", "device", "hardware", "threads")},
        ),
        seconds=measured["seconds"],
        memory_gb=measured["peak_memory"] / 1e9,
        memory_before_gb=measured["memory_before"] / 1e9,
        memory_kind=measured["memory_kind"],
        weights_gb=measured["weight_memory"] / 1e9,
        search=_search_of(config),
        extrapolated=None
        if work == other
        else Extrapolation(
            hours=carried_over(measured["seconds"], work, other) / 3600, memory_gb=other.least_bytes(itemsize) / 1e9
        ),
        runs={"profiling_cost": job.key},
    )


def work_of(config: ProfilingCostConfig) -> ProfilingWork:
    """What the job computes and holds."""
    load = config.load
    return ProfilingWork(
        shape=model_shape(load.shape),
        rows=load.rows,
        tokens=load.tokens,
        # of no meaning without a search
        search_rows=load.search_rows if config.candidates else 0,
        statistics=build_method(config.method, {}).statistics(),
        candidates=tuple(config.candidates),
        implementation=config.implementation,
        naive_head=load.naive_head,
    )


def papers_work_of(config: ProfilingCostConfig) -> ProfilingWork:
    """The same way of profiling at the paper's size."""
    searches = bool(config.candidates)
    return replace(
        work_of(config),
        shape=SHAPES[PAPER_SHAPE],
        rows=PAPER_ROWS,
        tokens=PAPER_TOKENS,
        search_rows=PAPER_ROWS if searches else 0,
        candidates=PAPER_CANDIDATES if searches else (),
    )


def _search_of(config: ProfilingCostConfig) -> str:
    if not config.candidates:
        return ""
    return (
        f"ASVD's search here: {len(config.candidates)} candidates a layer, each evaluated on {config.load.search_rows} "
        f"rows of {config.load.tokens} tokens."
    )
