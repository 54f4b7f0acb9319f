"""A cluster: what the user says of it in a file, and what each bundle of jobs asks it for."""

import dataclasses
import math
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table as Grid

from experiments.errors import UserError
from experiments.jobs.job import Job, bundles, with_inputs
from experiments.settings import HubModel, Settings, Shape, choose
from experiments.stages.registry import STAGES
from results.files import read_bounded, what_is_wrong

LEAST_HOURS, LEAST_MEMORY_GB = 1.0, 8
TYPICAL_TIMES = 60  # how much longer than in the tiny preset a stage of a small model may take
MARGIN = 2  # asked for, over the estimated hours


class StageRequest(Settings):
    """What a job of one stage asks for instead of the estimate; partition and resources: instead of the profile's."""

    hours: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    gpus: NonNegativeInt | None = None
    cpus: PositiveInt | None = None
    partition: str | None = None
    resources: dict[str, int | str] = Field(default_factory=dict)


class ClusterProfile(Settings):
    """The user's file (--profile).

    partition, account, extra: Slurm's, the last as further arguments of sbatch. jobs: how many at a time, at most.
    retries: of a job that ended without saying what is wrong with it. cpus: of a job that can use several, for each of
    its GPUs. resources: further ones of a Snakemake rule that the executor plugin understands; those called gpu... are
    for jobs with a GPU only. stages: by name. executor: settings of the plugin.
    """

    partition: str | None = None
    account: str | None = None
    extra: str | None = None
    jobs: PositiveInt = 100
    retries: NonNegativeInt = 2
    cpus: PositiveInt = 8
    resources: dict[str, int | str] = Field(default_factory=dict)
    stages: dict[str, StageRequest] = Field(default_factory=dict)
    executor: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What one bundle of jobs asks for, all on one node; resources: as a Snakemake rule has them."""

    gpus: int
    cpus: int
    memory_gb: int
    hours: float
    resources: Mapping[str, int | str]


@dataclass(frozen=True)
class Cluster:
    """Where jobs run instead of this machine.

    executor: the name of an executor plugin of Snakemake. gpus: what the preset's jobs with a model have, one process
    each; a training in several processes has as many.
    """

    executor: str
    profile: ClusterProfile
    gpus: int

    def request(self, bundle: Sequence[Job]) -> Request:
        """What the bundle asks for. Raises UserError for fewer GPUs than a training has processes."""
        job = bundle[0]
        own = self.profile.stages.get(job.stage.name, StageRequest())
        gpus = max(self.gpus, job.processes) if self.gpus and job.accelerated else 0
        if own.gpus is not None:
            gpus = own.gpus
        if 0 < gpus < job.processes:
            raise UserError(
                f"--profile: {gpus} GPUs for the stage {job.stage.name}, which trains in {job.processes} processes, "
                "one a GPU"
            )
        hours, memory = _estimate(bundle)
        cpus = self.profile.cpus * max(1, gpus) if gpus or job.stage.wide else 1
        hours, memory = own.hours or hours, math.ceil(own.memory_gb or memory)
        asked: dict[str, int | str | None] = {
            "mem_mb": memory * 1000,
            "runtime": math.ceil(hours * 60),
            "slurm_partition": own.partition or self.profile.partition,
            "slurm_account": self.profile.account,
            "slurm_extra": self.profile.extra,
        }
        if gpus:
            asked |= {"gpu": gpus, "nodes": 1}
        asked |= {**self.profile.resources, **own.resources}
        # a kind of GPU is a GPU to Slurm's plugin
        resources = {
            name: value for name, value in asked.items() if value is not None and (gpus or not name.startswith("gpu"))
        }
        return Request(gpus, own.cpus or cpus, memory, hours, resources)

    def plugin_settings(self) -> Any:
        """The settings of the executor plugin, None if it has none.

        Raises UserError for a plugin that isn't installed, for settings that it doesn't have, and where no Slurm is.
        """
        from snakemake_interface_common.exceptions import WorkflowError

        plugin = _plugins(self.executor)
        form = plugin.settings_cls
        known = [field.name for field in dataclasses.fields(form)] if form else []
        for name in self.profile.executor:
            choose(name, known, f"setting of the executor {self.executor}")
        if form is None:
            return None
        try:
            return form(**{**self._found_out(), **self.profile.executor})
        except WorkflowError as error:
            raise UserError(f"--profile: {str(error).strip().splitlines()[0]}") from error

    def _found_out(self) -> dict[str, Any]:
        """What the user need not say of a Slurm."""
        if self.executor != "slurm":
            return {}
        if shutil.which("sbatch") is None:
            raise UserError("--cluster slurm: there is no sbatch here; call this on a login node of the cluster")
        asking = ["sacct", "--noheader", "--jobs=1"]
        accounting = subprocess.run(asking, capture_output=True, timeout=60, check=False).returncode == 0
        # without an account Slurm takes the user's default one, the plugin that of the last job
        return {"no_account": self.profile.account is None, "status_command": "sacct" if accounting else "squeue"}


def load_cluster(executor: str, path: Path | None, gpus: int) -> Cluster:
    """A cluster by its executor and the user's file about it, if there is one. Raises UserError with one line."""
    _plugins(executor)
    if path is None:
        return Cluster(executor, ClusterProfile(), gpus)
    try:
        profile = ClusterProfile.model_validate(tomllib.loads(read_bounded(path).decode()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"--profile {path}: {what_is_wrong(error)}") from error
    for name in profile.stages:
        choose(name, STAGES, "stage")
    return Cluster(executor, profile, gpus)


def show_requests(cluster: Cluster, missing: Sequence[Job], console: Console) -> None:
    """Prints what each job that the cluster would get asks for."""
    grid = Grid("stage", "cells", "GPUs", "CPUs", "memory GB", "hours", box=None)
    asked = [(bundle, cluster.request(bundle)) for bundle in bundles(missing)]
    for bundle, request in asked:
        cells = ", ".join(job.label for job in bundle)
        numbers = (request.gpus, request.cpus, request.memory_gb, f"{request.hours:.1f}")
        grid.add_row(bundle[0].stage.name, cells, *map(str, numbers))
    console.print(grid)
    console.print(f"{len(asked)} jobs would go to {cluster.executor}, at most {cluster.profile.jobs} at a time")


def _plugins(name: str) -> Any:
    """The executor plugin of that name. Raises UserError if it isn't installed, or runs on this machine."""
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    plugins = ExecutorPluginRegistry().plugins
    remote = [known for known, plugin in plugins.items() if plugin.common_settings.non_local_exec]
    remote = [known for known in remote if not known.endswith("-jobstep")]  # what others run inside of their jobs
    return plugins[choose(name, remote, "--cluster")]


def _estimate(bundle: Sequence[Job]) -> tuple[float, float]:
    """Hours with a margin, and gigabytes of host memory: of the model's shapes, or the least where it is small."""
    hours = max(LEAST_HOURS, bundle[0].stage.typical_s * TYPICAL_TIMES / 3600)
    if (shape := _shape(bundle[0])) is None:
        return hours, LEAST_MEMORY_GB
    from experiments.running.estimate import Estimator

    costs = [Estimator(shape).cost(job) for job in bundle]
    memory = max(cost.memory_gb for cost in costs)
    return max(hours, MARGIN * sum(cost.hours for cost in costs)), max(LEAST_MEMORY_GB, memory)


def _shape(job: Job) -> Shape | None:
    """The shape of the dense model behind a job, None where a preset makes it itself or the user brought it."""
    for holder in (getattr(job.config, "load", None), getattr(job.config, "random", None)):
        if (shape := getattr(holder, "shape", None)) is not None:
            return shape
    sources = (getattr(upstream.config, "model", None) for upstream in with_inputs([job]))
    return next((source.shape for source in sources if isinstance(source, HubModel)), None)
