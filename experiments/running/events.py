"""What a bundle's job on another machine tells those who watch the run: through a file of the store."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from experiments.jobs.job import Job
from experiments.running.observer import Event, Observer

SUFFIX = ".jsonl"
PROGRESS_EVERY_S = 5.0
READ_EVERY_S = 2.0


class EventFile:
    """An observer on the job's side: a line of JSON for each event."""

    def __init__(self, path: Path) -> None:
        self.path, self.progress_at = path, 0.0

    def __call__(self, event: Event) -> None:
        if event.kind == "advanced":
            # a small model trains many steps a second, and a shared file system has others to serve
            if (now := time.monotonic()) - self.progress_at < PROGRESS_EVERY_S:
                return
            self.progress_at = now
        with self.path.open("a") as file:
            file.write(json.dumps([event.kind, *event.values]) + "\n")


class Follower:
    """Passes on to an observer what the event files of a folder say, from a thread of its own.

    bundles: name -> its jobs; a bundle's files are called NAME.ANYTHING.jsonl. errors: name -> the line that a bundle
    ended with for good. deaths: name -> why its latest attempt came to nothing.
    """

    def __init__(self, folder: Path, bundles: Mapping[str, list[Job]], observer: Observer) -> None:
        self.folder, self.bundles, self.observer = folder, bundles, observer
        self.errors: dict[str, str] = {}
        self.deaths: dict[str, str] = {}
        self.running: set[str] = set()
        self._read: dict[str, int] = {}
        self._guard = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()
        self.poll()

    def poll(self) -> None:
        """Reads what is new. A line that is only half there waits for the next time."""
        with self._guard:
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                start = self._read.get(path.name, 0)
                with path.open("rb") as file:
                    file.seek(start)
                    whole, newline, _ = file.read().rpartition(b"\n")
                self._read[path.name] = start + len(whole) + len(newline)
                for line in whole.splitlines():
                    kind, *values = json.loads(line)
                    name = path.name.split(".")[0]
                    self._pass_on(name, Event(self.bundles[name], kind, tuple(values)))

    def abandoned(self, name: str, line: str) -> None:
        """An attempt is over without having said so itself."""
        with self._guard:
            if name in self.running:
                self.running.remove(name)
                self.observer(Event(self.bundles[name], "ended", (line,)))

    def _follow(self) -> None:
        while not self._over.wait(READ_EVERY_S):
            self.poll()

    def _pass_on(self, name: str, event: Event) -> None:
        match event.kind, event.values:
            case "died", (line,):
                self.deaths[name] = line
                return
            case "started", _:
                self.running.add(name)
            case "ended", (error,):
                if error is not None:
                    self.errors[name] = error
                if name not in self.running:
                    return
                self.running.remove(name)
        self.observer(event)
