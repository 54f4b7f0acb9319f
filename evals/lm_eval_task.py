"""The benchmarks as tasks of lm-eval, zero-shot and greedy: what evals/tasks/*.yaml refer to.

    lm_eval --include_path evals/tasks --tasks impact_gsm8k --metadata '{"data_file": "test.jsonl"}' ...

Without data_file the test problems come from the hub. "style": "raw" or "chat" in the metadata puts programming
problems in another way (evals/code_prompts.py), "chat" together with --apply_chat_template. The package must be
installed. `python -m evals.lm_eval_task` writes those files, by which lm-eval finds tasks.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets, load_dataset
from lm_eval.api.task import ConfigurableTask

from evals.benchmarks import BENCHMARKS, Benchmark, Judging, get_benchmark, load_rows
from evals.code_prompts import Style
from evals.json_lines import Row

TASKS_FOLDER = Path(__file__).parent / "tasks"


class BenchmarkTask(ConfigurableTask):
    """The task impact_NAME of a benchmark.

    config: "task", and "metadata" with "data_file" and "style"; whatever else lm-eval's users set goes before what is
    said here.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        chosen = get_benchmark(config["task"].removeprefix("impact_"))
        style = config.get("metadata", {}).get("style", "alpaca")
        of_the_benchmark = {
            "custom_dataset": partial(_dataset, chosen.name),
            "test_split": "test",
            "output_type": "generate_until",
            "num_fewshot": 0,
            "doc_to_text": _prompt,
            "doc_to_target": "",
            "gen_prefix": chosen.answer_opening(style),
            "process_results": _results,
            "metric_list": [{"metric": "pass_at_1", "aggregation": "mean", "higher_is_better": True}],
            "generation_kwargs": {
                "do_sample": False,
                "max_gen_toks": chosen.max_gen_toks,
                "until": [*chosen.stop_strings(style)],
            },
        }
        given = {key: value for key, value in config.items() if key != "class"}
        super().__init__(config=of_the_benchmark | given | {"metadata": {"version": 2.0} | config.get("metadata", {})})


def _dataset(benchmark: str, data_file: str | None = None, style: Style = "alpaca", **metadata: Any) -> dict[str, Any]:
    """Test problems from a local file, or from the hub if none is given; lm-eval's other metadata is ignored.

    A document holds the problem's identifier, its prompt and its row as JSON: rows of one file may differ in their
    fields. In memory: nothing is written to the datasets cache.
    """
    chosen = get_benchmark(benchmark)
    if data_file is None:
        source = chosen.published
        parts = [load_dataset(source.repository, part, split="test") for part in source.parts]
        rows = [dict(row) for row in concatenate_datasets(parts)]
    else:
        rows = load_rows(benchmark, Path(data_file))
    documents = {
        "benchmark": [benchmark] * len(rows),
        "task_id": [chosen.task_id(index, row) for index, row in enumerate(rows)],
        "prompt": [chosen.prompt(row, style) for row in rows],
        "row": [json.dumps(row) for row in rows],
    }
    return {"test": Dataset.from_dict(documents)}


def _prompt(doc: Row) -> str:
    return str(doc["prompt"])


def _results(doc: Row, completions: list[str]) -> dict[str, float]:
    """Pass@1 of one completion; a program is run isolated (evals.execution)."""
    (verdict,) = get_benchmark(doc["benchmark"]).judge(completions[:1], [json.loads(doc["row"])], Judging())
    return {"pass_at_1": float(bool(verdict.correct))}


def task_file(benchmark: Benchmark) -> str:
    """What evals/tasks/NAME.yaml holds."""
    return (
        f"# {benchmark.label}, {benchmark.test_size:,} test problems; "
        "evals/lm_eval_task.py, which writes this file, says how it is used.\n"
        f"task: {benchmark.task_name}\n"
        "class: !function evals.lm_eval_task.BenchmarkTask\n"
        "output_type: generate_until\n"
    )


if __name__ == "__main__":
    for each in BENCHMARKS.values():
        (TASKS_FOLDER / f"{each.name}.yaml").write_text(task_file(each))
