"""profiling_cost: the time and the memory that profiling takes with one method, in one way of doing it.

Each job has a process of its own, so that its peak memory is its own. Weights are random: neither depends on them.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from baselines import naive_search
from baselines.asvd import Asvd
from baselines.registry import METHODS, build_method
from evals.speed.machine_limits import hardware_name, wait_for
from evals.speed.peak_memory import peak_memory, reset_peak
from evals.speed.random_weights import random_weights_model
from experiments.jobs.stage import Task
from experiments.settings import ProfilingLoad
from experiments.stages.components import as_stored
from experiments.stages.configs import ProfilingCostConfig
from experiments.stages.models import DTYPES, device
from experiments.stages.search import SearchPerplexity, evaluations
from experiments.stages.speed import model_shape
from impact import naive
from impact.calibration import IGNORED_LABEL, Batch, calibrate, weights_frozen
from impact.compression import parameter_count, prepare_units
from impact.interface import Method
from impact.rank_rule import RankRule
from impact.streaming_calibration import calibrate_streaming

HOST = torch.device("cpu")


def run(task: Task) -> dict[str, Any]:
    """Returns seconds of each phase (calibration, decomposition, search) and the peak memory, in bytes."""
    config: ProfilingCostConfig = task.config
    load, place = config.load, device()
    # a model that is streamed stays on the host
    home = HOST if config.implementation == "streamed" else place
    model = random_weights_model(
        model_shape(load.shape), None, DTYPES[load.precision], str(home), attention=config.attention
    )
    batches = random_rows(load)
    with torch.no_grad():
        # the first call of a process sets libraries up, which is no method's cost
        model(input_ids=batches[0].input_ids[:1].to(home), use_cache=False)
    kind = reset_peak(str(place))
    before = peak_memory(str(place), kind)
    profiling = Profiling(config, model, batches, place, task.progress)
    profiling.run()
    return {
        "seconds": profiling.seconds,
        "peak_memory": peak_memory(str(place), kind),
        "memory_before": before,
        "memory_kind": kind,
        "weight_memory": sum(p.numel() * p.element_size() for p in model.parameters()),
        "parameters": parameter_count(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(place),
        "hardware": hardware_name(str(place)),
        "threads": torch.get_num_threads(),
    }


def random_rows(load: ProfilingLoad) -> list[Batch]:
    """Batches of random full-length rows, the first quarter of each being the prompt."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, load.shape.vocabulary, (load.rows, load.tokens), generator=generator)
    labels = ids.clone()
    labels[:, : load.tokens // 4] = IGNORED_LABEL
    columns = (ids, torch.ones_like(ids), labels)
    return [Batch(*(c[i : i + load.batch_size] for c in columns)) for i in range(0, load.rows, load.batch_size)]


@dataclass
class Profiling:
    """One method's profiling, timed by phase. place: the accelerator; progress(done, total)."""

    config: ProfilingCostConfig
    model: PreTrainedModel
    batches: list[Batch]
    place: torch.device
    progress: Callable[[float, float], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """All that the method needs before it can compress to any ratio."""
        settings: dict[str, Any] = {}
        if METHODS[self.config.method].searches:
            sensitivity = "gradient" if self.config.implementation == "estimated" else "exact"
            settings = {"candidates": tuple(self.config.candidates), "sensitivity": sensitivity}
        method = build_method(self.config.method, settings)
        with self._timed("calibration"):
            statistics = self._calibrated(method)
        if isinstance(method, Asvd):
            self._search(method, statistics["input_magnitude"])

    def _calibrated(self, method: Method) -> dict[str, Any]:
        names = method.statistics()
        if self.config.implementation == "streamed":
            for _ in calibrate_streaming(self.model, self._reported(), names, self.place):
                pass
            return {}
        if self.config.implementation == "naive" and not method.searches:
            skip = frozenset() if self.config.load.naive_head else frozenset({"lm_head"})
            here = (batch.to(self.place) for batch in self._reported())
            with weights_frozen(self.model):
                naive.profile(self.model, here, skip, gradient="squared_gradient" in names)
            return {}
        return calibrate(self.model, self._reported(), names, HOST)

    def _search(self, method: Asvd, statistics: dict[str, dict[str, Tensor]]) -> None:
        load = self.config.load
        rows = random_rows(load.model_copy(update={"rows": load.search_rows}))
        perplexity = SearchPerplexity(rows, evaluations(method, method.units(self.model)), self.progress)

        def timed(model: nn.Module) -> float:
            with self._timed("search"):
                return perplexity(model)

        if self.config.implementation == "naive":
            with self._timed("decomposition"):
                naive_search.score(method, self.model, statistics, timed)
            # it decomposes anew for each candidate, in between
            self.seconds["decomposition"] -= self.seconds["search"]
            return
        with self._timed("decomposition"):
            rules = [RankRule("parameter_ratio", method.candidates[-1])]
            prepared = prepare_units(method, self.model, statistics, rules)
            components = {name: as_stored(unit) for name, unit in prepared}
        with self._timed("search"):
            method.score(self.model, components, perplexity)

    def _reported(self) -> Iterable[Batch]:
        for i, batch in enumerate(self.batches):
            self.progress(i, len(self.batches))
            yield batch

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        wait_for(str(self.place))
        start = time.perf_counter()
        yield
        wait_for(str(self.place))
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
