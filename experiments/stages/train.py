"""finetune and sft: supervised fine-tuning of a dense or a compressed model with the Hugging Face Trainer."""

import json
import math
import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from datasets import Dataset
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.utils.data import DataLoader, Sampler
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from evals.json_lines import Row
from evals.tokenisation import tokenise_row
from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.settings import Training
from experiments.stages.checkpoints import ByTime, Checkpoints
from experiments.stages.configs import TrainConfig
from experiments.stages.data import rows_of
from experiments.stages.models import copy_tokenizer, load
from impact.checkpoint import save_model


def run(task: Task) -> dict[str, Any]:
    """Trains in as many processes as the config says; returns what `train` measured."""
    processes = task.config.training.processes
    if processes == 1:
        return train(task)
    _check_loopback()
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=task.out.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the machine's own name may lead nowhere without a network
        max_restarts=0,
        start_method=start_method(),
    )
    try:
        return elastic_launch(launch, train)(task)[0]
    except ChildFailedError as failed:
        raise _cause(failed) from failed


def start_method() -> str:
    """CUDA does not survive a fork; without it, a fork saves each process seconds of imports."""
    return "spawn" if torch.cuda.is_available() else "fork"


def _check_loopback() -> None:
    """Raises UserError where the processes of one machine can't reach each other, in place of minutes of attempts."""
    try:
        with socket.create_server(("localhost", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"several training processes need the loopback interface ({error.strerror}): ip link set lo up"
        ) from error


def _cause(failed: ChildFailedError) -> Exception:
    """What went wrong first among several processes."""
    _, failure = failed.get_first_failure()
    if isinstance(failure.message, dict):  # an exception
        line = failure.message["message"]
        kind = f"{UserError.__name__}: "
        if line.startswith(kind):
            return UserError(line.removeprefix(kind))
        if "by peer" not in line:  # where it is, another process was lost to this one
            return RuntimeError(line.removeprefix("RuntimeError: "))
    return ChildProcessError(
        "one of the training's processes was killed or crashed, most likely because memory ran out"
    )


def train(task: Task) -> dict[str, Any]:
    """Trains on data/train.jsonl from the model in the slot "model"; returns steps, loss and the labelled share."""
    config: TrainConfig = task.config
    rows = rows_of(task.inputs["data"] / "train.jsonl")[: config.training.rows]
    torch.set_num_threads(max(1, task.threads // config.training.processes))
    set_seed(config.seed)
    # On the CPU: the Trainer knows which of the processes owns which accelerator.
    model, tokenizer = load(task.inputs["model"], "fp32", config.attention, torch.device("cpu"))
    trainer, measured = fit(model, tokenizer, rows, task, config.training, config.seed)
    # Collective where the model is sharded; the same as the model's own state where it isn't.
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        save_model(model, task.out, state)
        copy_tokenizer(task.inputs["model"], task.out)
    return measured


def fit(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
    task: Task,
    training: Training,
    seed: int,
    **overrides: Any,
) -> tuple[Trainer, dict[str, Any]]:
    """Trains in place what of the model is to be trained; returns the trainer, and steps, loss and labelled share.

    A training that was killed goes on from its checkpoint and ends as an undisturbed one.
    overrides: Trainer arguments that are not the pipeline's own. Raises UserError for a loss or gradient that is not a
    number.
    """
    dataset, labelled = tokenised(tokenizer, rows, training.max_length)
    checkpoints = Checkpoints(task.scratch)
    trainer = _Trainer(
        checkpoints,
        model=model,
        args=arguments(training, seed, len(dataset), task, **overrides),
        train_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        callbacks=[_Progress(task), ByTime(task.checkpoint_minutes)],
    )
    measured: dict[str, Any] = {}
    checkpoint = checkpoints.last()
    if checkpoint:
        measured["resumed_from_step"] = int(checkpoint.rpartition("-")[2])
        if trainer.is_world_process_zero():
            task.say(f"continues from step {measured['resumed_from_step']}, where its last checkpoint was made")
        trainer.add_callback(_Resumption(trainer, Path(checkpoint)))
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except Exception as error:
        if not checkpoint or trainer.under_way:
            raise
        reason = f"{type(error).__name__}: {shorten(str(error), 200)}"
        raise RuntimeError(f"can't go on from {checkpoint} ({reason}); without that it starts anew") from error
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    measured |= {"steps": result.global_step, "loss": losses[-1:], "labelled_share": labelled, "rows": len(dataset)}
    return trainer, measured


def tokenised(tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int) -> tuple[Dataset, float]:
    """The rows as input_ids, labels and length, and the share of tokens that carry a label."""
    made = [tokenise_row(tokenizer, row, max_length) for row in rows]
    # A prompt that fills max_length leaves nothing to learn, and its loss would be 0 / 0.
    made = [row for row in made if any(label >= 0 for label in row.labels)]
    tokens = sum(len(row.labels) for row in made)
    labelled = sum(label >= 0 for row in made for label in row.labels)
    columns = {
        "input_ids": [row.input_ids for row in made],
        "labels": [row.labels for row in made],
        "length": [len(row.labels) for row in made],
    }
    return Dataset.from_dict(columns), labelled / tokens


def arguments(training: Training, seed: int, rows: int, task: Task, **overrides: Any) -> TrainingArguments:
    """Trainer arguments; everything whose default differs between libraries is set here."""
    cuda = torch.cuda.is_available()
    steps = training.max_steps or math.ceil(rows / training.batch_size) * training.epochs
    schedule: dict[str, Any] = {"lr_scheduler_type": "cosine"}
    warmup = math.ceil(steps * training.warmup_ratio)
    if training.schedule == "warmup_stable_decay":
        decay = math.ceil(steps * training.decay_ratio)
        schedule = {
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {"num_decay_steps": decay, "decay_type": "cosine"},
        }
    if training.schedule == "constant_with_warmup":
        schedule = {"lr_scheduler_type": "constant_with_warmup"}
    return TrainingArguments(
        output_dir=str(task.out / "trainer"),
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.batch_size // (training.micro_batch_size * training.processes),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        warmup_steps=warmup,
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        bf16=training.precision == "bf16",
        tf32=True if cuda and training.precision == "bf16" else None,
        gradient_checkpointing=training.gradient_checkpointing,
        fsdp="full_shard auto_wrap" if training.sharded else None,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if training.processes > 1 and not cuda else None,
        dataloader_pin_memory=cuda,
        use_cpu=not cuda,
        save_strategy="no",
        logging_steps=max(1, int(steps) // 20),
        report_to="none",
        logging_nan_inf_filter=False,  # the training ends there
        disable_tqdm=True,
        seed=seed,
        **schedule,
        **{"optim": "adamw_torch_fused", **overrides},
    )


class LengthSortedBatches(Sampler[list[int]]):
    """Batches of rows of like length in random order, reshuffled every epoch.

    The Trainer's own length grouping sorts the batches of each fifty as well: where length tells the kind of problem,
    training sees one kind at a time and lags far behind (measured on the tiny preset).
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        draw = random.Random(self.seed + self.epoch)
        self.epoch += 1
        order = list(range(len(self.lengths)))
        draw.shuffle(order)
        pool = 50 * self.batch_size
        batches = []
        for start in range(0, len(order), pool):
            rows = sorted(order[start : start + pool], key=self.lengths.__getitem__)
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        draw.shuffle(batches)
        return iter(batches)


class _Trainer(Trainer):
    """The Trainer with LengthSortedBatches (accelerate still shards them over devices), with checkpoints that hold all
    that an undisturbed training would go on with, and with an end at the first loss or gradient that is no number."""

    def __init__(self, checkpoints: Checkpoints, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.checkpoints = checkpoints
        self.under_way = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        self.batches = LengthSortedBatches(self.train_dataset["length"], self.args.train_batch_size, self.args.seed)
        dataset = self.train_dataset.remove_columns("length")
        loader = DataLoader(
            dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        self.under_way = True  # whatever a checkpoint held has been read
        loss: torch.Tensor = super().training_step(*given, **named)
        self._stop_unless_finite("loss", loss)
        return loss

    def _get_grad_norm(self, *given: Any, **named: Any) -> Any:
        norm = super()._get_grad_norm(*given, **named)
        self._stop_unless_finite("gradient's norm", norm)
        return norm

    def _stop_unless_finite(self, what: str, value: torch.Tensor | float) -> None:
        if not math.isfinite(value):
            # Whatever came before leads here again, and with another setting it is another training.
            self.checkpoints.discard()
            raise UserError(
                f"the {what} is {float(value)} at step {self.state.global_step + 1}: lower this training's "
                f"learning_rate, {self.args.learning_rate:g}, in the preset; none of its checkpoints is kept, and the "
                "next call trains from the start"
            )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """The weights of a checkpoint, as a stage's output has them: save_pretrained changes the model's config, which
        the output has too."""
        if output_dir and isinstance(self.model, PreTrainedModel):
            save_model(self.model, Path(output_dir), state_dict)
        else:
            super()._save(output_dir, state_dict)

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        super()._save_checkpoint(*given, **named)
        written = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        unlogged = {"losses": self._tr_loss.item(), "since": self._globalstep_last_logged}
        (written / _unlogged_file(self.args)).write_text(json.dumps(unlogged))
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self.checkpoints.keep(written)


class _Resumption(TrainerCallback):
    """Takes up from a checkpoint what the Trainer leaves out: which epoch's batches come, and the losses that are not
    in the log yet."""

    def __init__(self, trainer: _Trainer, checkpoint: Path) -> None:
        self.trainer, self.checkpoint = trainer, checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.batches.epoch = int(state.epoch)
        unlogged = json.loads((self.checkpoint / _unlogged_file(args)).read_text())
        self.trainer._tr_loss += unlogged["losses"]
        self.trainer._globalstep_last_logged = unlogged["since"]


def _unlogged_file(args: TrainingArguments) -> str:
    return f"unlogged_{args.process_index}.json"


class _Progress(TrainerCallback):
    """Passes the step count and the losses on, from the first process."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.task.progress(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and "loss" in logs:
            named = {name: logs[name] for name in ("loss", "learning_rate", "grad_norm") if name in logs}
            self.task.log({"step": state.global_step, **named})
