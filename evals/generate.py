"""Generation with an already loaded model, through lm-evaluation-harness."""

from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from evals.benchmarks import get_benchmark
from evals.code_prompts import Style
from evals.generations import Generation, write_generations
from evals.lm_eval_task import BenchmarkTask

_STOP_INTERVAL = 8
_LOOKBACK_MARGIN = 2


class _RowsEndAtStops(StoppingCriteria):
    """Ends each row soon after it holds a stop string; the text is cut exactly at the stop string afterwards.

    lm-eval's own criterion decodes every row for every stop string at every step, which costs more than a small
    model's forward passes, and keeps a batch running until one and the same stop string is in all of its rows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: list[str], prompt_length: int) -> None:
        longest = max(len(tokenizer.encode(stop, add_special_tokens=False)) for stop in stops)
        self._window = longest + _LOOKBACK_MARGIN + _STOP_INTERVAL
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]  # lm-eval adds eos as text, which may be empty
        self._prompt_length = prompt_length
        self._done: torch.Tensor | None = None  # (batch,)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if self._done is None:
            self._done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        generated = input_ids.shape[1] - self._prompt_length
        if generated % _STOP_INTERVAL == 0:
            waiting = (~self._done).nonzero().flatten()
            tails = input_ids[waiting, self._prompt_length :][:, -self._window :]
            texts = self._tokenizer.batch_decode(tails)
            held = [any(stop in text for stop in self._stops) for text in texts]
            self._done[waiting] = torch.tensor(held, device=input_ids.device)
        return self._done


class _LoadedModel(HFLM):
    """lm-eval's wrapper around a loaded model, with a cheaper stopping criterion and whole indentations."""

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """The text of the tokens; if it is indented, with all of its first spaces.

        Llama's decoder drops one where a text begins, and a program whose first line lacks it is none.
        """

        def decoded(ids: Any) -> str:
            return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

        text = decoded(tokens)
        if not text.startswith(" "):
            return text
        before = self.tokenizer.encode("1", add_special_tokens=False)
        whole = decoded([*before, *tokens]).removeprefix(decoded(before))
        return whole if whole == f" {text}" else text

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        generation_kwargs.pop("temperature", None)  # greedy; transformers warns about a temperature
        return self.model.generate(
            input_ids=context,
            max_length=max_length,
            stopping_criteria=[_RowsEndAtStops(self.tokenizer, stop, context.shape[1])],
            use_cache=True,
            **generation_kwargs,
        )


def generate_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: str,
    data_file: Path,
    out_file: Path,
    *,
    batch_size: int,
    max_gen_toks: int,
    style: Style = "alpaca",
    limit: int | None = None,
) -> int:
    """Greedy zero-shot completions for the first `limit` problems of a local benchmark file (None: all); their number.

    They are kept in `out_file` (JSONL of evals.generations.Generation), once all are there; nothing is judged.
    Prompts are tokenised with the tokenizer's default special tokens, as in training. Decoding is greedy and ends at
    the tokenizer's eos, whatever the model's own generation config says. Mode and generation config of the model are
    as before after the call. Neither network nor datasets cache is used.
    Raises DataFileError for a bad data file, and ValueError if `max_gen_toks` leaves no room for a prompt or the style
    is "chat" and the tokenizer has no chat template.
    """
    chosen = get_benchmark(benchmark)
    chat = chosen.answer_opening(style) is not None
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no eos token, which ends every response")
    if chat and tokenizer.chat_template is None:
        raise ValueError("the prompt style is chat, and the model's tokenizer has no chat template")
    task = BenchmarkTask({"task": chosen.task_name, "metadata": {"data_file": str(data_file), "style": style}})
    task.set_config("generation_kwargs", {"max_gen_toks": max_gen_toks}, update=True)
    # Judged later, from the kept completions: a generated program is not run in the process that holds the model.
    task.process_results = lambda doc, results: {}

    was_training, own_config = model.training, model.generation_config
    try:
        lm = _LoadedModel(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        if max_gen_toks >= lm.max_length:
            raise ValueError(f"max_gen_toks {max_gen_toks} leaves no room for a prompt in {lm.max_length} positions")
        # a chat model's own config may hold sampling settings and repetition penalties, a new model's a wrong eos
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
        # evaluate, not simple_evaluate: the latter runs `pip list` and others for its environment report
        tasks = {"tasks": {chosen.task_name: task}}
        results = evaluate(lm, tasks, limit, bootstrap_iters=0, log_samples=True, apply_chat_template=chat)
    finally:
        model.generation_config = own_config
        model.train(was_training)

    generations = [
        Generation(sample["doc"]["task_id"], sample["arguments"][0][0], sample["filtered_resps"][0])
        for sample in results["samples"][chosen.task_name]
    ]
    write_generations(out_file, generations)
    return len(generations)
