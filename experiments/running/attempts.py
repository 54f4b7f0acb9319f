"""What becomes of a cluster's job that failed: another attempt, or the line that the user gets."""

import logging
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from experiments.jobs.job import Job
from experiments.running.events import Follower
from experiments.running.observer import Event

HINTS = {
    "OUT_OF_MEMORY": "give it more: memory_gb of its stage in the --profile",
    "TIMEOUT": "give it more: hours of its stage in the --profile",
}


class Attempts(logging.Handler):
    """Hears from Snakemake which rule's job failed, before Snakemake decides whether to try it again.

    retries: how often it will. rule: name -> Snakemake's rule, whose retries are taken away where the stage itself has
    said what is wrong. given_up: a line for each rule that isn't tried again, the first failure first.
    """

    def __init__(self, follower: Follower, retries: int, rule: Callable[[str], Any]) -> None:
        super().__init__()
        self.follower, self.retries, self.rule = follower, retries, rule
        self.given_up: list[str] = []
        self._failures: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        from snakemake_interface_logger_plugins.common import LogEvent

        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            fields = vars(record)
            logs = [str(path) for path in fields["log"] if path is not None]
            self.failed(fields["rule_name"], fields["rule_msg"] or "", logs)

    def failed(self, name: str, message: str, logs: list[str]) -> None:
        """One attempt failed. message: what the executor says of it; logs: where its job printed to."""
        self.follower.poll()
        jobs = self.follower.bundles[name]
        what = jobs[0].describe()
        if error := self.follower.errors.get(name):
            self.rule(name).restart_times = 0
            return self._give_up(jobs, error.removeprefix(what).lstrip(": "))
        self._failures[name] += 1
        reason = self.follower.deaths.pop(name, "").removeprefix(what).lstrip(": ")
        reason = "; ".join(part for part in (reason, said(message)) if part)
        if self._failures[name] <= self.retries:
            reason += f"; it is tried again ({self._failures[name]} of {self.retries})"
            self.follower.observer(Event(jobs, "told", (reason,)))
        else:
            reason += f" ({self._failures[name]} attempts)" if self.retries else ""
            reason += "".join(f"; {hint}" for state, hint in HINTS.items() if state in message)
            reason += f"; its last job's log is {logs[-1]}" if logs else ""
            self._give_up(jobs, reason)
        self.follower.abandoned(name, reason)

    def _give_up(self, jobs: list[Job], reason: str) -> None:
        self.given_up.append(f"{jobs[0].describe()}: {reason}")
        line = f"{reason}; no other job begins, and those that run are waited for"
        self.follower.observer(Event(jobs, "told", (line,)))


def said(message: str) -> str:
    """What an executor says of a failed job, on one line and without where else to look and the call that it made."""
    text = re.split("Detailed failure reason unavailable|For further error details", message)[0]
    kept = [line.strip() for line in text.splitlines() if not line.startswith("    ")]
    return " ".join(kept).strip().rstrip(".")
