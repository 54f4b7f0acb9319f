"""Mirrors runs to W&B as they go: one of its runs a job, one a published table (docs/wandb.md).

The run directories stay the truth. Everything is sent from threads of its own in the parent process, so that no stage
waits for W&B or knows of it, and whatever W&B raises ends in one line while the run goes on.
"""

import hashlib
import json
import logging
import os
import queue
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from experiments.errors import UserError
from experiments.jobs.job import Job
from experiments.jobs.store import Store
from experiments.mirror.scrubbing import scrubbed
from experiments.running.observer import Event

Say = Callable[[str], None]
Lane: TypeAlias = "queue.SimpleQueue[Callable[[], object] | None]"

PROJECT = "impact-reproduction"
MODES: dict[str, Literal["online", "offline"] | None] = {
    **dict.fromkeys(("online", "run", "shared"), "online"),
    **dict.fromkeys(("offline", "dryrun"), "offline"),
    "disabled": None,
}
"""What WANDB_MODE may be, with W&B's own older names."""

LANES = 4
"""Threads: online, W&B answers each beginning and each end of a run only after a while."""
PATIENCE_S = {"online": 120.0, "offline": 60.0}
"""How long the end of everything waits for what is not written yet."""

# W&B looks at more than it is given: command line, code, packages, host and user. None of that is to be sent.
PRIVATE: dict[str, Any] = {
    **dict.fromkeys(("x_disable_meta", "x_disable_machine_info", "x_disable_stats", "disable_git"), True),
    **dict.fromkeys(("disable_code", "disable_job_creation", "label_disable", "silent"), True),
    **dict.fromkeys(("save_code", "x_save_requirements", "symlink", "use_dot_wandb"), False),
    **dict.fromkeys(("host", "username", "email", "docker", "program", "program_relpath", "program_abspath"), ""),
    "console": "off",
}
# W&B reads these before its settings: whether to print, and whether to report its own errors, with paths in them
ENVIRONMENT = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
TIMEOUTS = {"init_timeout": 30.0, "finish_timeout": 30.0}


@dataclass(frozen=True)
class Destination:
    """Where to. folder: W&B makes its folder `wandb` in it. table, preset: what the jobs are of."""

    mode: Literal["online", "offline"]
    folder: Path
    table: str
    preset: str
    project: str = field(default_factory=lambda: os.environ.get("WANDB_PROJECT") or PROJECT)
    entity: str | None = field(default_factory=lambda: os.environ.get("WANDB_ENTITY") or None)


def asked_mode(asked: bool, environ: Mapping[str, str] = os.environ) -> Literal["online", "offline"] | None:
    """The mode that WANDB_MODE names, or online if it names none and the user asked for W&B; None for no W&B at all.

    Raises UserError for a mode that W&B doesn't have.
    """
    named = environ.get("WANDB_MODE", "").lower()
    if not named:
        return "online" if asked else None
    if named not in MODES:
        raise UserError(f"WANDB_MODE is online, offline or disabled, not '{named}'")
    return MODES[named]


@contextmanager
def mirrored(store: Store, table: str, preset: str, asked: bool, say: Say) -> Iterator["WandbMirror | None"]:
    """A mirror for the jobs and the files of a table; None where nobody wants one. say: prints a line for people.

    Raises UserError for a WANDB_MODE that W&B doesn't have.
    """
    mode = asked_mode(asked)
    if mode is None:
        yield None
        return
    folder = Path(os.environ.get("WANDB_DIR") or store.root).resolve()
    with WandbMirror(store, Destination(mode, folder, table, preset), say) as mirror:
        yield mirror


class WandbMirror:
    """An observer (experiments.running.observer) that mirrors what it is told."""

    def __init__(self, store: Store, destination: Destination, say: Say) -> None:
        self.store, self.destination, self.say = store, destination, say
        self.mode, self.broken = destination.mode, False
        self.runs: dict[str, Any] = {}
        self.url, self.made = "", 0
        self.module: Any = None
        self.guard = threading.Lock()
        self.lanes: list[Lane] = [queue.SimpleQueue() for _ in range(LANES)]
        self.threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in self.lanes]

    @property
    def folder(self) -> Path:
        """Where W&B's files are."""
        return self.destination.folder / "wandb"

    def __enter__(self) -> "WandbMirror":
        if self.mode == "online":
            self._safely(self._wandb)  # here, where no thread minds another working directory
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Waits until all is written, but not for long."""
        for lane in self.lanes:
            lane.put(partial(self._abandon, lane))
            lane.put(None)
        until = time.monotonic() + PATIENCE_S[self.mode]
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self.threads):
            self.say("W&B: not all was sent in time; the same command with nothing left to measure sends the rest")
        elif self.made:
            send = f"(cd {self.destination.folder} && {Path(sys.executable).with_name('wandb')} sync) sends them"
            self.say(f"W&B: {self.made} runs {f'offline; {send}' if self.mode == 'offline' else f'at {self.url}'}")

    def __call__(self, event: Event) -> None:
        if action := getattr(self, f"_{event.kind}", None):
            for job in event.jobs:
                self._lane(job.id).put(partial(action, job, *event.values))

    def complete(self, jobs: Sequence[Job]) -> None:
        """Mirrors finished jobs that no run with W&B has seen to their ends: made without it, or just before a kill."""
        for job in jobs:
            self._lane(job.id).put(partial(self._catch_up, job))

    def published(self, files: Sequence[Path]) -> None:
        """Mirrors a table or figures: CSV and JSON files as tables, PNG files as images, all files as an artifact.

        What has no JSON file goes by the name of the table that the jobs are of.
        """
        self.lanes[0].put(partial(self._publish, list(files)))

    def _lane(self, identity: str) -> Lane:
        """One for each run, so that what happens to it stays in order."""
        return self.lanes[int(identity, 16) % LANES]

    def _work(self, lane: Lane) -> None:
        while (action := lane.get()) is not None:
            self._safely(action)

    def _safely(self, action: Callable[[], object]) -> None:
        while not self.broken:
            mode = self.mode
            try:
                action()
                break
            except Exception as error:  # W&B, its service, the network and the disk have each their own
                self._failed(mode, error)

    def _failed(self, mode: str, error: Exception) -> None:
        """Goes on offline if that happened online, else gives up; says so once."""
        first = next(iter(scrubbed(str(error)).strip().splitlines()), type(error).__name__)
        with self.guard:
            if mode == "online":
                if self.mode == "online":
                    self._go_offline(f"fails ({first})")
            elif not self.broken:
                self.broken = True
                self.say(f"W&B fails and gets no more of this run, which goes on: {first}")

    def _go_offline(self, why: str) -> None:
        """With the guard held."""
        self.mode = os.environ["WANDB_MODE"] = "offline"
        self.runs.clear()
        self.say(f"W&B {why}: what follows is kept in {self.folder} for wandb sync")
        if self.module:  # its service holds the ids of the runs that it began
            self.module.teardown()
            self.module = None

    def _wandb(self) -> Any:
        """The module, set up. Goes offline where there is no key."""
        with self.guard:
            if self.module is None:
                self.folder.mkdir(parents=True, exist_ok=True)  # where it can't be, W&B would take another one
                # the data directory is for copies of an artifact's files, until they are sent
                os.environ |= {**ENVIRONMENT, "WANDB_DATA_DIR": str(self.folder)}
                import wandb

                # its own log of the run, which says nothing to a user and everything of the machine
                logging.getLogger("wandb").setLevel(logging.CRITICAL + 1)
                root = self.destination.folder
                given = {name: s for name, s in TIMEOUTS.items() if f"WANDB_{name.upper()}" not in os.environ}
                # W&B's service opens an artifact's files from where it was started
                with chdir(root) if self.mode == "online" else nullcontext():
                    wandb.setup(wandb.Settings(mode=self.mode, root_dir=str(root), **PRIVATE, **given))
                if self.mode == "online" and not wandb.login(prompt=False, verify=False):
                    self._go_offline("has no key here (wandb login, or WANDB_API_KEY)")
                self.module = wandb
        return self.module

    def _begin(self, identity: str, name: str, group: str, kind: str, tags: list[str], config: dict[str, Any]) -> Any:
        wandb = self._wandb()
        if self.mode == "offline":
            for earlier in self.folder.glob(f"*run-*-{identity}*"):  # sent beside this one, they would mix
                shutil.rmtree(earlier)
        run = wandb.init(
            mode=self.mode,
            project=self.destination.project,
            entity=self.destination.entity,
            id=identity,
            name=name,
            group=group,
            job_type=kind,
            tags=tags,
            config=json.loads(scrubbed(json.dumps(config))),
            reinit="create_new",
        )
        self.url = self.url or run.project_url or ""
        # tables are logged as artifacts too, from inside W&B
        log = run.log_artifact
        run.log_artifact = lambda artifact, *more, **named: log(self._placed(artifact), *more, **named)
        return run

    def _placed(self, artifact: Any) -> Any:
        """The artifact with relative places of its files: the manifest that W&B sends has them in it."""
        for entry in artifact.manifest.entries.values():  # ours are all files, not references
            entry.local_path = os.path.relpath(entry.local_path, self.destination.folder)
        return artifact

    def _finish(self, run: Any, exit_code: int, identity: str) -> None:
        run.finish(exit_code=exit_code)
        file = Path(run.settings.sync_file)
        if not file.is_file() or not file.stat().st_size:
            raise OSError(f"W&B left no {file.name}")
        with self.guard:
            self.made += 1
        if not exit_code:
            mark = self._mark(identity)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"{file.name}\n")  # not empty: on a full disk that W&B couldn't write to, this fails too

    def _mark(self, identity: str) -> Path:
        """The file that says that a run was mirrored to its end, into this project."""
        to = self.destination
        return self.folder / "mirrored" / (to.entity or "default") / to.project / identity

    def _started(self, job: Job) -> Any:
        from experiments.mirror.content import method_of, tags_of

        if earlier := self.runs.pop(job.key, None):  # a cluster tries again what was killed
            earlier.finish(exit_code=1)
        table, preset = self.destination.table, self.destination.preset
        method = method_of(job)
        config = {**job.recipe(), "label": job.label, "table": table, "preset": preset, "method": method}
        tags = tags_of(job, table, preset)
        name = scrubbed(job.describe())
        run = self._begin(job.id, name, f"{table} {method}"[:128], job.stage.name, tags, config)
        self.runs[job.key] = run
        return run

    def _logged(self, job: Job, values: Mapping[str, float]) -> None:
        run = self.runs.get(job.key) or self._started(job)
        step = values.get("step")
        shown = {name: value for name, value in values.items() if name != "step"}
        run.log(shown, step=None if step is None else int(step))

    def _told(self, job: Job, line: str) -> None:
        (self.runs.get(job.key) or self._started(job)).write_logs(scrubbed(line))

    def _ended(self, job: Job, error: str | None) -> None:
        run = self.runs.get(job.key) or self._started(job)
        self.runs.pop(job.key, None)
        if error is None and not self.store.finished(job):
            error = "ended without an output"
        if error is None:
            self._fill(run, job)
        else:
            run.summary["error"] = scrubbed(error)
            run.write_logs(scrubbed(error))
        self._finish(run, int(error is not None), job.id)

    def _fill(self, run: Any, job: Job) -> None:
        """Puts what run.json and the output hold into the run."""
        from experiments.mirror.content import circumstances_of, numbers_of, ranks, spectra

        record = self.store.provenance(job)
        run.config.update({"made": json.loads(scrubbed(json.dumps(circumstances_of(record))))})
        shown: dict[str, Any] = numbers_of(job, record)
        if job.stage.name == "prepare":
            shown["spectra"] = self._table(spectra(self.store.directory(job)))
        if job.stage.name == "compress":
            components = self.store.directory(job.inputs["components"])
            shown["ranks"] = self._table(ranks(record["measured"]["kept"], components))
        run.log(shown)

    def _table(self, sheet: Any) -> Any:
        return self._wandb().Table(columns=sheet.columns, data=sheet.rows, allow_mixed_types=True)

    def _catch_up(self, job: Job) -> None:
        if not self._mark(job.id).exists():
            self._ended(job, None)

    def _publish(self, files: list[Path]) -> None:
        from experiments.mirror.content import sheet_of, verdicts_of

        records = [path for path in files if path.suffix == ".json"]
        identity = hashlib.sha256(b"".join(path.read_bytes() for path in records or files)).hexdigest()[:16]
        if self._mark(identity).exists():
            return
        name, preset = records[0].stem if records else self.destination.table, self.destination.preset
        config = {"table": name, "preset": preset}
        run = self._begin(identity, f"{name} at {preset}", name, "table", [name, f"preset {preset}"], config)
        artifact = self._wandb().Artifact(f"{name}-{preset}", type="table")
        shown: dict[str, Any] = {}
        for path in files:
            match path.suffix:
                case ".png":  # figure2a and figure2b are two images of one figure
                    figure = re.sub(r"(?<=\d)\D.*", "", path.stem)
                    shown.setdefault(figure, []).append(self._wandb().Image(str(path), caption=path.stem))
                case ".csv":
                    shown[path.stem] = self._table(sheet_of(path))
                case ".json" if verdicts := verdicts_of(path):
                    shown[f"{path.stem}_verdicts"] = self._table(verdicts)
            if path.suffix in (".png", ".pdf"):
                artifact.add_file(str(path))
            else:  # the command that made them is in them, as it was typed
                with artifact.new_file(path.name, mode="w", encoding="utf-8") as file:
                    file.write(scrubbed(path.read_text(encoding="utf-8")))
        run.log(shown)
        run.log_artifact(artifact)
        self._finish(run, 0, identity)

    def _abandon(self, lane: Lane) -> None:
        """Ends what an interruption left open."""
        for key in [key for key, run in self.runs.items() if self._lane(run.id) is lane]:
            self.runs.pop(key).finish(exit_code=255)
