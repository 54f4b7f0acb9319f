"""The live progress display: stage, cell and time left."""

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.jobs import Job


class Progress:
    """Shows what runs: a live panel on a terminal, one line a finished job elsewhere."""

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

    def started(self, jobs: list[Job]) -> None:
        with self.guard:
            self.running[jobs[0].key] = (jobs, time.monotonic(), 0.0)

    def advanced(self, jobs: list[Job], done: float, total: float) -> None:
        with self.guard:
            if jobs[0].key in self.running and total:
                _, since, _ = self.running[jobs[0].key]
                self.running[jobs[0].key] = (jobs, since, done / total)

    def logged(self, jobs: list[Job], values: Mapping[str, float]) -> None: ...

    def told(self, jobs: list[Job], line: str) -> None:
        self._print(f"{jobs[0].describe()}: {line}")

    def ended(self, jobs: list[Job], error: str | None) -> None:
        with self.guard:
            _, since, _ = self.running.pop(jobs[0].key)
            taken = time.monotonic() - since
            if error:
                return
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
