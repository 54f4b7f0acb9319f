"""Rows that people bring to calibrate on, in the forms that training sets are published in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from evals.bounded_file import DataFileError, read_bounded
from evals.json_lines import LARGEST_ROW, Row, check_text, json_rows
from evals.parquet_rows import MAGIC, parquet_rows
from evals.prompts import instruction_prompt

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
"""Who speaks in a chat, by the names that sets give them."""


@dataclass(frozen=True)
class Form:
    """A form of rows, known by its fields. `read` takes a row and its place and returns a training row.

    That has a "response" and either a "query", with or without "input", or a "prompt" as it stands, or "turns".
    """

    fields: tuple[str, ...]
    read: Callable[[Row, str], Row]

    def __str__(self) -> str:
        return " and ".join(self.fields)


def read_training_rows(path: Path) -> list[Row]:
    """Training rows of a file of JSON lines, of one JSON array, or of Parquet, all of them in one of FORMS.

    Raises DataFileError for a file that can't be read, and for the first row that is in no form or in another one
    than the first, or has a field of another type, or half a surrogate pair, which no tokenizer takes.
    """
    content = read_bounded(path)
    known = {name for form in FORMS for name in (*form.fields, "input")}
    placed = parquet_rows(path, content, known) if content.startswith(MAGIC) else json_rows(path, content)
    rows: list[Row] = []
    first: Form | None = None
    for where, row in placed:
        row = {name: value for name, value in row.items() if value is not None}
        form = next((form for form in FORMS if {*form.fields} <= {*row}), None)
        if form is None:
            accepted = "; ".join(map(str, FORMS))
            raise DataFileError(f"{where}: its fields ({_named(row)}) are none of those that rows have: {accepted}")
        if form is not (first := first or form):
            raise DataFileError(f"{where}: it has {form}, and the rows before it have {first}: one form in a file")
        rows.append(form.read(row, where))
    return rows


def with_prompts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """The rows with the turns of a chat put into a "prompt", by the tokenizer's chat template where it has one.

    Otherwise the turns are one instruction of the Alpaca template, with blank lines between them. Raises DataFileError
    for turns that the template refuses.
    """
    return [
        {"prompt": _prompt(row["turns"], row["where"], tokenizer), "response": row["response"]}
        if "turns" in row
        else row
        for row in rows
    ]


def _prompt(turns: list[Row], where: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if not turns:
        return ""
    if tokenizer.chat_template is None:
        return instruction_prompt("\n\n".join(turn["content"] for turn in turns))
    try:
        prompt = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program, and may raise anything
        said = " ".join(str(error).split())[:200]
        raise DataFileError(f"{where}: the model's chat template refuses it: {said or type(error).__name__}") from None
    # templates write the token that the tokenizer puts in front by itself
    alone = tokenizer("")["input_ids"]
    begins = isinstance(tokenizer.bos_token, str) and alone[:1] == [tokenizer.bos_token_id]
    return prompt.removeprefix(tokenizer.bos_token) if begins else prompt


def _instructed(query: str, response: str, default: str | None) -> Callable[[Row, str], Row]:
    """Rows of those two fields and an optional "input", which is `default` where there is none."""

    def read(row: Row, where: str) -> Row:
        context = {"input": row.get("input", default)}
        read = {"query": row[query], **({} if context["input"] is None else context), "response": row[response]}
        for name, value in zip((query, *(["input"] if "input" in read else []), response), read.values(), strict=True):
            _check(value, f'{where}: field "{name}"')
        return read

    return read


def _chat(field: str, role: str, content: str) -> Callable[[Row, str], Row]:
    """Rows of a list of turns: the assistant's last one is the response, those before it are asked."""

    def read(row: Row, where: str) -> Row:
        turns: list[Row] = []
        given = row[field]
        if not isinstance(given, list):
            raise DataFileError(f'{where}: field "{field}" is no list of turns')
        for number, turn in enumerate(given, start=1):
            place = f'{where}: turn {number} of "{field}"'
            if not isinstance(turn, dict) or not {role, content} <= {*turn}:
                raise DataFileError(f'{place} has no "{role}" and "{content}"')
            _check(turn[role], f'{place}: "{role}"')
            _check(turn[content], f'{place}: "{content}"')
            if turn[role] not in ROLES:
                raise DataFileError(f'{place}: "{role}" is {turn[role][:50]!r} and none of {", ".join(ROLES)}')
            turns.append({"role": ROLES[turn[role]], "content": turn[content]})
        last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=None)
        if last is None:
            raise DataFileError(f'{where}: "{field}" has no turn of the assistant')
        return {"turns": turns[:last], "response": turns[last]["content"], "where": where}

    return read


def _text(row: Row, where: str) -> Row:
    _check(row["text"], f'{where}: field "text"')
    return {"prompt": "", "response": row["text"]}


def _check(value: Any, what: str) -> None:
    check_text(value, what)
    if len(value) > LARGEST_ROW:
        raise DataFileError(f"{what} is larger than a row may be, {LARGEST_ROW >> 20} MiB")


def _named(row: Row) -> str:
    return ", ".join(map(repr, sorted(row)))[:200] or "none"


FORMS = (
    Form(("query", "response"), _instructed("query", "response", None)),
    # an instruction of several lines is one, where MetaMath's query is split at the first
    Form(("instruction", "output"), _instructed("instruction", "output", "")),
    Form(("messages",), _chat("messages", "role", "content")),
    Form(("conversations",), _chat("conversations", "from", "value")),
    Form(("text",), _text),
)
"""MetaMath's, Alpaca's, chats' two, and plain text, all of which counts as response. The first that fits: Alpaca's
published rows have a "text" as well."""
