"""perplexity and evaluate: what a model says."""

from typing import Any

from evals.generate import generate_completions
from evals.perplexity import response_perplexity
from experiments.jobs.stage import Task
from experiments.stages.configs import EvaluateConfig, PerplexityConfig
from experiments.stages.data import rows_of
from experiments.stages.halving import halving
from experiments.stages.models import load

GENERATIONS = "generations.jsonl"


def perplexity(task: Task) -> dict[str, Any]:
    """Returns {"perplexity": {source: value}}."""
    config: PerplexityConfig = task.config
    model, tokenizer = load(task.inputs["model"], config.precision, config.attention)
    held_out = rows_of(task.inputs["data"] / "heldout.jsonl")

    def measured(batch_size: int) -> dict[str, Any]:
        values = {}
        for source in sorted({row["source"] for row in held_out}):
            rows = [row for row in held_out if row["source"] == source][: config.perplexity.rows]
            values[source] = response_perplexity(
                model, tokenizer, rows, batch_size=batch_size, max_length=config.perplexity.max_length
            )
        return {"perplexity": values}

    return halving(measured, config.perplexity.batch_size, task.say)


def evaluate(task: Task) -> dict[str, Any]:
    """Greedy completions through lm-eval, kept as JSONL. Returns their number."""
    config: EvaluateConfig = task.config
    model, tokenizer = load(task.inputs["model"], config.precision, config.attention)

    def generated(batch_size: int) -> dict[str, Any]:
        number = generate_completions(
            model,
            tokenizer,
            config.benchmark,
            task.inputs["data"] / f"{config.benchmark}.jsonl",
            task.out / GENERATIONS,
            batch_size=batch_size,
            max_gen_toks=config.evaluation.max_gen_toks,
            style=config.evaluation.style,
            limit=config.evaluation.limit,
        )
        return {"completions": number}

    return halving(generated, config.evaluation.batch_size, task.say)
