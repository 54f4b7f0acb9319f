"""The live progress display: stage, cell and time left."""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.jobs.job import Job
from experiments.running.observer import Event


class Progress:
    """An observer that shows what runs: a live panel on a terminal, one line a finished job elsewhere."""

    def __init__(self, missing: Iterable[Job], cores: int, console: Console) -> None:
        self.waiting = {job.key: job for job in missing}
        self.total = len(self.waiting)
        self.cores, self.console = cores, console
        self.running: dict[str, tuple[list[Job], float, float]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.started_at = time.monotonic()
        self.guard = threading.Lock()
        self.live = Live(self, console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        jobs, first = event.jobs, event.jobs[0]
        if event.kind == "told":
            return self._print(f"{first.describe()}: {event.values[0]}")
        with self.guard:
            match event.kind, event.values:
                case "started", _:
                    self.running[first.key] = (jobs, time.monotonic(), 0.0)
                case "advanced", (done, total) if total and first.key in self.running:
                    _, since, _ = self.running[first.key]
                    self.running[first.key] = (jobs, since, done / total)
                case "ended", (error,):
                    _, since, _ = self.running.pop(first.key)
                    if not error:
                        self._finished(jobs, time.monotonic() - since)

    def _finished(self, jobs: list[Job], taken: float) -> None:
        self.seconds.setdefault(jobs[0].stage.name, []).append(taken / len(jobs))
        for job in jobs:
            self.waiting.pop(job.key, None)
        if not self.live:
            done = self.total - len(self.waiting)
            what = f"{jobs[0].stage.name} {', '.join(job.label for job in jobs)}".strip()
            self._print(f"[{done}/{self.total}] {what}  {taken:.1f} s  ({_clock(self.left())} left)")

    def _print(self, line: str) -> None:
        # Where the reader has gone, as `head` does, rich silences itself and asks to exit: from the scheduler's
        # threads, which would wait for ever. The run goes on.
        with suppress(SystemExit):
            self.console.print(line, markup=False, soft_wrap=True)

    def left(self) -> float:
        """Estimated seconds until the end: each stage's mean so far, or what it takes in the tiny preset."""
        wide = narrow = 0.0
        parts = {key: part for key, (_, _, part) in self.running.items()}
        for key, job in self.waiting.items():
            past = self.seconds.get(job.stage.name)
            seconds = sum(past) / len(past) if past else job.stage.typical_s
            seconds *= 1 - parts.get(key, 0.0)
            if job.stage.wide:
                wide += seconds
            else:
                narrow += seconds
        return wide + narrow / self.cores

    def __rich__(self) -> RenderableType:
        with self.guard:
            table = Table.grid(padding=(0, 2))
            for jobs, since, part in self.running.values():
                labels = ", ".join(job.label for job in jobs)
                table.add_row(
                    Text(jobs[0].stage.name, style="bold"),
                    Text(labels),
                    ProgressBar(total=1, completed=part, width=24),
                    f"{_clock(time.monotonic() - since)}",
                )
            done = self.total - len(self.waiting)
            elapsed = time.monotonic() - self.started_at
            line = Text(f"{done} of {self.total} jobs, {_clock(elapsed)} so far, about {_clock(self.left())} left")
            return Group(table, line)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
