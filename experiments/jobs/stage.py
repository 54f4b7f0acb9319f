"""What a stage is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from baselines.declarations import declared
from experiments.settings import Settings


@dataclass
class Task:
    """What a stage function works on.

    inputs: slot -> verified directory of the upstream output. paths: places outside the store. outputs: where to
    write, one directory for each config of the bundle. threads: CPU threads it may use. progress(done, total); log:
    numbers of the moment by name, such as step and loss; say: a line for people, where something went another way than
    asked and the stage goes on. scratch: a directory for what a killed stage would go on from; it is there once
    something is put into it. checkpoint_minutes: how often a training does, 0 for never.
    """

    configs: list[Any]
    inputs: Mapping[str, Path]
    paths: Mapping[str, str]
    outputs: list[Path]
    threads: int
    progress: Callable[[float, float], None]
    log: Callable[[Mapping[str, float]], None]
    say: Callable[[str], None]
    scratch: Path
    checkpoint_minutes: float

    @property
    def config(self) -> Any:
        """The only config of a stage that doesn't bundle."""
        (config,) = self.configs
        return config

    @property
    def out(self) -> Path:
        """The only output of a stage that doesn't bundle."""
        (out,) = self.outputs
        return out


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline: a plain function with a typed config that fills a directory.

    version: raised whenever the same recipe would give another output (a test watches the `sources`).
    follows_method: whether a version that the config's method pins counts as well; the stages behind follow anyway,
    since their inputs are others.
    follows_benchmark: whether a version that the config's benchmark pins counts as well.
    entry: "module:function" of the plain function that fills the output and returns measurements for run.json; a name
    and not the function, so that planning need not import transformers.
    bundles: config fields in which jobs may differ and still run together.
    wide: whether it uses all cores of a machine; the others run side by side, one thread each.
    accelerated: whether it takes a GPU although no model is among its inputs; with one it always does.
    typical_s: seconds it takes in the tiny preset, for the first estimate of the time left.
    """

    name: str
    version: int
    config: type[Settings]
    entry: str
    sources: tuple[str, ...]
    bundles: tuple[str, ...] = ()
    wide: bool = False
    accelerated: bool = False
    typical_s: float = 1.0
    follows_method: bool = False
    follows_benchmark: bool = False

    def version_of(self, config: Settings) -> int | str:
        """The version for one config, with the hash of its method's or benchmarks' sources if they pin no version."""
        if benchmarks := [*getattr(config, "benchmarks", ()), *filter(None, [getattr(config, "benchmark", None)])]:
            from evals.benchmarks import BENCHMARKS, unpinned_sources

            pinned = [BENCHMARKS[name].version or 1 for name in benchmarks if name in BENCHMARKS]
            version = self.version + sum(own - 1 for own in pinned) if self.follows_benchmark else self.version
            return f"{version} {hashed}" if (hashed := unpinned_sources(benchmarks)) else version
        if (method := getattr(config, "method", None)) is None:
            return self.version
        own = declared(method, getattr(config, "settings", {})).version
        if isinstance(own, str):
            return f"{self.version} {own}"
        return self.version + own - 1 if self.follows_method else self.version

    def run(self, task: Task) -> dict[str, Any]:
        """Runs the stage's function."""
        module, _, function = self.entry.partition(":")
        return getattr(import_module(module), function)(task)
