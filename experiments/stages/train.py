"""finetune and sft: supervised fine-tuning of a dense or a compressed model with the Hugging Face Trainer."""

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.utils.data import DataLoader, Sampler
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from evals.json_lines import Row
from evals.tokenisation import tokenise_row
from experiments.errors import UserError
from experiments.settings import Training
from experiments.stages.configs import TrainConfig
from experiments.stages.data import rows_of
from experiments.stages.interface import Task
from experiments.stages.models import copy_tokenizer, load
from impact.checkpoint import save_model


def run(task: Task) -> dict[str, Any]:
    """Trains in as many processes as the config says; returns what `train` measured."""
    processes = task.config.training.processes
    if processes == 1:
        return train(task)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=task.out.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    return elastic_launch(launch, train)(task)[0]


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

    overrides: Trainer arguments that are not the pipeline's own. Raises UserError for a loss that is not a number.
    """
    dataset, labelled = tokenised(tokenizer, rows, training.max_length)
    trainer = _Trainer(
        model=model,
        args=arguments(training, seed, len(dataset), task, **overrides),
        train_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        callbacks=[_Progress(task.progress)],
    )
    result = trainer.train()
    if not math.isfinite(result.training_loss):
        raise UserError("the training loss is not a number: lower the learning rate of this preset")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    measured = {"steps": result.global_step, "loss": losses[-1:], "labelled_share": labelled, "rows": len(dataset)}
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
    """The Trainer with LengthSortedBatches; accelerate still shards them over devices."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        batches = LengthSortedBatches(self.train_dataset["length"], self.args.train_batch_size, self.args.seed)
        dataset = self.train_dataset.remove_columns("length")
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


class _Progress(TrainerCallback):
    """Passes the step count on."""

    def __init__(self, progress: Callable[[float, float], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)
