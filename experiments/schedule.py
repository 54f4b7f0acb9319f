"""Handing jobs to Snakemake, which owns the graph, the order, the resources and the cluster."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from experiments.children import run_bundle, start_server
from experiments.errors import UserError
from experiments.jobs import Job, bundles, with_inputs
from experiments.stages.registry import DATA, STAGES
from experiments.store import Store

SNAKEFILE = Path(__file__).parent / "Snakefile"


class Observer(Protocol):
    """Whoever shows progress."""

    def started(self, jobs: list[Job]) -> None:
        """A bundle begins."""

    def advanced(self, jobs: list[Job], done: float, total: float) -> None:
        """A bundle has done some part of its work."""

    def ended(self, jobs: list[Job], error: str | None) -> None:
        """A bundle is finished, or failed with one line."""


class Silent:
    """Shows nothing: for cluster jobs, whose scheduler shows them."""

    def started(self, jobs: list[Job]) -> None: ...

    def advanced(self, jobs: list[Job], done: float, total: float) -> None: ...

    def ended(self, jobs: list[Job], error: str | None) -> None: ...


@dataclass(frozen=True)
class Item:
    """One rule of the Snakefile: a bundle of jobs that one process makes."""

    name: str
    jobs: list[Job]
    inputs: list[str]
    outputs: list[str]
    threads: int
    gpus: int

    @property
    def priority(self) -> int:
        """Wide jobs go before those of one thread, which would keep them waiting, and all other cores with them.

        The data go first of all: a malformed file is found before anything else is made.
        """
        return self.threads + 1000 * (self.jobs[0].stage is DATA)


@dataclass(frozen=True)
class Schedule:
    """All rules of a run, and the stamps that they must make."""

    store: Store
    items: list[Item]

    @property
    def stamps(self) -> list[str]:
        """Every output."""
        return [path for item in self.items for path in item.outputs]


observer: Observer = Silent()
_failures: list[str] = []


def execute(jobs: list[Job], store: Store, cores: int, gpus: int, watching: Observer) -> None:
    """Makes the outputs of all jobs that aren't finished. Raises UserError with the first failure's line.

    jobs: inputs first. The caller holds the store's lock.
    """
    global observer
    missing = [job for job in jobs if not store.finished(job)]
    for job in missing:
        store.stamp(job).unlink(missing_ok=True)
    if not missing:
        return
    start_server()
    path = _write_schedule(missing, store, cores, gpus)
    observer = watching
    _failures.clear()
    _snakemake(path, store, cores, gpus)


def run_scheduled(schedule: str, name: str, threads: int) -> None:
    """The body of every rule: makes a bundle's outputs, then its stamps."""
    loaded = load_schedule(schedule)
    item = next(item for item in loaded.items if item.name == name)
    error = None
    observer.started(item.jobs)
    try:
        run_bundle(loaded.store, item.jobs, threads, lambda done, total: observer.advanced(item.jobs, done, total))
        for stamp in item.outputs:
            Path(stamp).parent.mkdir(parents=True, exist_ok=True)
            Path(stamp).touch()
    except UserError as failure:
        error = str(failure)
        _failures.append(error)
        raise
    finally:
        observer.ended(item.jobs, error)


@lru_cache(maxsize=1)
def load_schedule(path: str) -> Schedule:
    """The schedule that `execute` wrote."""
    stored = json.loads(Path(path).read_text())
    store = Store(Path(stored["store"]))
    jobs: dict[str, Job] = {}
    for key, recipe in stored["jobs"].items():
        jobs[key] = job_from(recipe, jobs)
    items = []
    for bundle in bundles(jobs[key] for key in stored["missing"]):
        stage = bundle[0].stage
        upstream = {up.key: up for job in bundle for up in job.inputs.values()}
        gpus = min(stored["gpus"], _processes(bundle[0]))
        items.append(
            Item(
                name=f"{stage.name}_{bundle[0].id}",
                jobs=bundle,
                inputs=[str(store.stamp(up)) for key, up in sorted(upstream.items()) if key in stored["missing"]],
                outputs=[str(store.stamp(job)) for job in bundle],
                threads=stored["cores"] if stage.wide else 1,
                gpus=gpus if "model" in bundle[0].inputs or stage.accelerated else 0,
            )
        )
    return Schedule(store, items)


def job_record(job: Job) -> dict[str, Any]:
    """A job as plain data; its inputs by key."""
    return {
        "stage": job.stage.name,
        "config": job.config.model_dump(mode="json"),
        "inputs": {slot: up.key for slot, up in job.inputs.items()},
        "paths": dict(job.paths),
        "label": job.label,
    }


def job_from(record: dict[str, Any], jobs: dict[str, Job]) -> Job:
    """The job of a record, its inputs taken from `jobs`."""
    stage = STAGES[record["stage"]]
    inputs = {slot: jobs[key] for slot, key in record["inputs"].items()}
    return Job(stage, stage.config.model_validate(record["config"]), inputs, record["paths"], record["label"])


def _processes(job: Job) -> int:
    return int(getattr(getattr(job.config, "training", None), "processes", 1))


def _write_schedule(missing: list[Job], store: Store, cores: int, gpus: int) -> Path:
    content = {
        "store": str(store.root),
        "cores": cores,
        "gpus": gpus,
        "jobs": {job.key: job_record(job) for job in with_inputs(missing)},
        "missing": [job.key for job in missing],
    }
    path = store.root / "schedule.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)
    load_schedule.cache_clear()
    return path


def _snakemake(schedule: Path, store: Store, cores: int, gpus: int) -> None:
    from snakemake.api import SnakemakeApi
    from snakemake.scheduling.greedy import SchedulerSettings
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        ExecutionSettings,
        OutputSettings,
        RerunTrigger,
        ResourceSettings,
        SchedulingSettings,
        WorkflowSettings,
    )

    output = OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
    before = os.getcwd()
    try:
        with SnakemakeApi(output) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=cores, resources={"gpu": gpus}),
                config_settings=ConfigSettings(config={"schedule": str(schedule)}),
                workflow_settings=WorkflowSettings(),
                snakefile=SNAKEFILE,
                workdir=store.root,
            )
            dag = workflow.dag(DAGSettings(targets={"all"}, rerun_triggers={RerunTrigger.MTIME}, force_incomplete=True))
            # The store's own lock, which the kernel lets go of, stands in for Snakemake's, which a kill leaves behind.
            dag.execute_workflow(
                executor="local",
                execution_settings=ExecutionSettings(lock=False, use_threads=True, keep_metadata=False),
                scheduling_settings=SchedulingSettings(scheduler="greedy"),
                scheduler_settings=SchedulerSettings(),
            )
    except Exception as error:
        if _failures:
            raise UserError(_failures[0]) from error
        raise
    finally:
        os.chdir(before)
