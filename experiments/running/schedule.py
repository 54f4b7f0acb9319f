"""Handing jobs to Snakemake, which owns the graph, the order, the resources and the cluster."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.errors import ENDING, Interrupted, UserError, interrupt
from experiments.jobs.job import Job, bundles, with_inputs
from experiments.jobs.store import Store
from experiments.running.attempts import Attempts
from experiments.running.children import (
    PRELOADED,
    PRELOADED_ALONE,
    PRELOADED_WITH_GPUS,
    StageDiedError,
    kill_children,
    run_bundle,
    start_server,
)
from experiments.running.cluster import Cluster
from experiments.running.events import SUFFIX, EventFile, Follower
from experiments.running.gpus import FreeGpus, first_gpus
from experiments.running.observer import Event, Observer
from experiments.stages.registry import DATA, STAGES
from results.files import written_whole

SNAKEFILE = Path(__file__).parent / "Snakefile"
SCHEDULE = "schedule.json"
RUNS = "cluster"  # in the store: a folder for the run whose jobs a cluster has
RETIRED_AFTER_S = 10.0
LATENCY_S = 60  # in which a shared file system shows what another machine wrote


@dataclass(frozen=True)
class Item:
    """One rule of the Snakefile: a bundle of jobs that one process makes."""

    name: str
    jobs: list[Job]
    inputs: list[str]
    outputs: list[str]
    threads: int
    resources: Mapping[str, int | str]

    @property
    def priority(self) -> int:
        """Wide jobs go before those of one thread, which would keep them waiting, and all other cores with them.

        The data go first of all: a malformed file is found before anything else is made.
        """
        return self.threads + 1000 * (self.jobs[0].stage is DATA)


@dataclass(frozen=True)
class Schedule:
    """All rules of a run, and the stamps that they must make.

    events: where jobs on a cluster tell of themselves, None on this machine.
    """

    store: Store
    items: list[Item]
    checkpoint_minutes: float
    events: Path | None

    @property
    def stamps(self) -> list[str]:
        """Every output."""
        return [path for item in self.items for path in item.outputs]


_observer: Observer  # of the run on this machine, as the GPUs below
_failures: list[str] = []
_free_gpus = FreeGpus(0)


def execute(
    jobs: list[Job],
    store: Store,
    cores: int,
    gpus: int,
    observers: Sequence[Observer],
    checkpoint_minutes: float,
    cluster: Cluster | None = None,
) -> None:
    """Makes the outputs of all jobs that aren't finished. Raises UserError with the first failure's line.

    jobs: inputs first. checkpoint_minutes: how often a training keeps what it would go on from if it were killed.
    cluster: where they run; otherwise on this machine, on so many of its cores and GPUs. The caller holds the store's
    lock.
    """
    global _observer, _free_gpus
    missing = [job for job in jobs if not store.finished(job)]
    for job in missing:
        store.stamp(job).unlink(missing_ok=True)
    if not missing:
        return
    if {"{", "}"} & {*str(store.root)}:
        raise UserError(
            f"--store {store.root}: braces in its path are wildcards to Snakemake; choose another directory"
        )
    # jobs that a killed call has left on a cluster look for their schedule, and stop
    shutil.rmtree(store.root / RUNS, ignore_errors=True)
    path = _write_schedule(missing, store, cores, gpus, checkpoint_minutes, cluster)
    _failures.clear()

    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    if cluster is None:
        start_server(PRELOADED_WITH_GPUS if gpus else PRELOADED)
        _observer, _free_gpus = tell, FreeGpus(gpus)
        _snakemake(path, store, cores, gpus)
        return
    try:
        with Follower(path.parent, {_name(bundle): bundle for bundle in bundles(missing)}, tell) as follower:
            _snakemake(path, store, cores, gpus, cluster, follower)
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)


def run_scheduled(schedule: str, name: str, threads: int) -> None:
    """The body of every rule: makes a bundle's outputs, then its stamps."""
    loaded = load_schedule(schedule)
    item = next(item for item in loaded.items if item.name == name)
    observer: Observer
    gpus: AbstractContextManager[list[str]]
    if loaded.events is None:
        observer, gpus = _observer, _free_gpus.taken(int(item.resources["gpu"]))
    else:
        start_server(PRELOADED_ALONE)
        gpus = nullcontext(first_gpus(item.jobs[0].processes if "gpu" in item.resources else 0))
        threading.Thread(target=_stop_when_retired, args=(Path(schedule),), daemon=True).start()
        observer = EventFile(loaded.events / f"{name}.{socket.gethostname()}.{os.getpid()}{SUFFIX}")
    observer(Event(item.jobs, "started"))
    try:
        with gpus as names:
            run_bundle(loaded.store, item.jobs, threads, observer, loaded.checkpoint_minutes, names)
        for stamp in item.outputs:
            Path(stamp).parent.mkdir(parents=True, exist_ok=True)
            Path(stamp).touch()
    except (UserError, OSError) as failure:
        error = f"{failure.filename}: {failure.strerror}" if isinstance(failure, OSError) else str(failure)
        _failures.append(error)
        died = loaded.events and isinstance(failure, (StageDiedError, OSError))
        observer(Event(item.jobs, "died" if died else "ended", (error,)))
        raise
    observer(Event(item.jobs, "ended", (None,)))


def _stop_when_retired(schedule: Path) -> None:
    """Ends a cluster's job whose call is over: it must not work beside the next one."""
    while schedule.exists():
        time.sleep(RETIRED_AFTER_S)
    os._exit(1)


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
        upstream = {up.key: up for job in bundle for up in job.inputs.values()}
        items.append(
            Item(
                name=_name(bundle),
                jobs=bundle,
                inputs=[str(store.stamp(up)) for key, up in sorted(upstream.items()) if key in stored["missing"]],
                outputs=[str(store.stamp(job)) for job in bundle],
                **stored["requests"][_name(bundle)],
            )
        )
    return Schedule(store, items, stored["checkpoint_minutes"], Path(path).parent if stored["elsewhere"] else None)


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


def _name(bundle: list[Job]) -> str:
    return f"{bundle[0].stage.name}_{bundle[0].id}"


def _write_schedule(
    missing: list[Job], store: Store, cores: int, gpus: int, checkpoint_minutes: float, cluster: Cluster | None
) -> Path:

    def request(bundle: list[Job]) -> dict[str, Any]:
        if cluster:
            asked = cluster.request(bundle)
            return {"threads": asked.cpus, "resources": dict(asked.resources)}
        job = bundle[0]
        # one a process or none: a training does not fit on fewer
        taken = job.processes if job.accelerated and job.processes <= gpus else 0
        return {"threads": cores if job.stage.wide else 1, "resources": {"gpu": taken}}

    content = {
        "store": str(store.root),
        "elsewhere": cluster is not None,
        "checkpoint_minutes": checkpoint_minutes,
        "requests": {_name(bundle): request(bundle) for bundle in bundles(missing)},
        "jobs": {job.key: job_record(job) for job in with_inputs(missing)},
        "missing": [job.key for job in missing],
    }
    path = store.root / SCHEDULE
    if cluster:
        path = store.root / RUNS / f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}" / SCHEDULE
        path.parent.mkdir(parents=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content))
    load_schedule.cache_clear()
    return path


def _snakemake(
    schedule: Path,
    store: Store,
    cores: int,
    gpus: int,
    cluster: Cluster | None = None,
    follower: Follower | None = None,
) -> None:
    from snakemake.api import SnakemakeApi
    from snakemake.logging import logger
    from snakemake.scheduling.greedy import SchedulerSettings
    from snakemake.settings import types
    from snakemake.settings.enums import Quietness

    output = types.OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
    resources = types.ResourceSettings(cores=cores, resources={"gpu": gpus})
    # The store's own lock, which the kernel lets go of, stands in for Snakemake's, which a kill leaves behind.
    execution = types.ExecutionSettings(lock=False, use_threads=True, keep_metadata=False)
    executor: dict[str, Any] = {"executor": "local"}
    if cluster:
        resources = types.ResourceSettings(nodes=cluster.profile.jobs)
        execution = replace(execution, retries=cluster.profile.retries, latency_wait=LATENCY_S)
        executor = {"executor": cluster.executor, "executor_settings": cluster.plugin_settings()}
    failures = _failures
    before = os.getcwd()
    interrupted: list[int] = []
    try:
        with _noticing_interrupts(interrupted), SnakemakeApi(output) as api:
            workflow = api.workflow(
                resource_settings=resources,
                config_settings=types.ConfigSettings(config={"schedule": str(schedule)}),
                workflow_settings=types.WorkflowSettings(),
                snakefile=SNAKEFILE,
                workdir=store.root,
            )
            dag = workflow.dag(
                types.DAGSettings(targets={"all"}, rerun_triggers={types.RerunTrigger.MTIME}, force_incomplete=True)
            )
            if cluster and follower:
                # nothing public says of one rule of a running workflow that it isn't to be tried again
                attempts = Attempts(follower, cluster.profile.retries, workflow._workflow.get_rule)
                logger.addHandler(attempts)
                failures = attempts.given_up
            dag.execute_workflow(
                **executor,
                execution_settings=execution,
                scheduling_settings=types.SchedulingSettings(scheduler="greedy"),
                scheduler_settings=SchedulerSettings(),
            )
    except Exception as error:
        if interrupted:
            raise Interrupted(
                interrupted[0], "interrupted; what is finished is kept, and the same command goes on from there"
            ) from error
        if failures:
            raise UserError(failures[0]) from error
        if cluster:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"--cluster {cluster.executor}: {lines[0]}") from error
        raise
    finally:
        os.chdir(before)


@contextmanager
def _noticing_interrupts(interrupted: list[int]) -> Iterator[None]:
    """Keeps the signals that ask for an end: Snakemake ends what is interrupted as if a job had failed."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    def notice(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        kill_children()  # Snakemake waits for what runs
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, notice) for number in ENDING if signal.getsignal(number) is interrupt}
    # its own answer to SIGTERM would be to wait for the jobs that run, for hours perhaps
    graceful, JobScheduler.exit_gracefully = JobScheduler.exit_gracefully, staticmethod(notice)
    try:
        yield
    finally:
        JobScheduler.exit_gracefully = graceful
        for number, handler in before.items():
            signal.signal(number, handler)
