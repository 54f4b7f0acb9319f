"""What a training that is under way keeps on disk, so that a killed one goes on from there.

The Trainer writes a checkpoint into the stage's temporary output, which nothing reads once its writer is gone. A whole
one is brought to the disk, and then by one rename to the directory that outlives the stage; it leaves that directory
by a rename too. So whatever lies there is whole.
Optimizer and generators are torch pickles, which nobody else writes or reads; they are read with weights_only.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from experiments.jobs.store import remove, sync


class Checkpoints:
    """Those of one training, in a directory that outlives it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def last(self) -> str | None:
        """The one to go on from."""
        return get_last_checkpoint(self.directory) if self.directory.is_dir() else None

    def keep(self, written: Path) -> None:
        """Makes a written checkpoint the only one."""
        sync(written)
        self.directory.mkdir(parents=True, exist_ok=True)
        earlier = [path for path in self.directory.iterdir() if path.name != written.name]
        if (self.directory / written.name).exists():  # of a second maker of the same output: it is the same
            shutil.rmtree(written)
        else:
            os.rename(written, self.directory / written.name)
        sync(self.directory)
        for path in earlier:
            remove(path)

    def discard(self) -> None:
        """Removes them all."""
        remove(self.directory)


class ByTime(TrainerCallback):
    """Asks for a checkpoint whenever so many minutes have passed since the last one; for none if they are 0."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.since = 60 * minutes, time.monotonic()

    def on_train_begin(self, *given: Any, **named: Any) -> None:
        self.since = time.monotonic()

    on_save = on_train_begin  # what writing took doesn't count

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self.seconds or state.global_step >= state.max_steps:
            return
        due = torch.tensor(int(time.monotonic() - self.since >= self.seconds))
        if args.world_size > 1:
            # a checkpoint takes all processes, and each has a clock of its own: the first one's counts
            due = broadcast(due.to(args.device))
        control.should_save = bool(due)
