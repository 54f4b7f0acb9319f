"""Rows to calibrate on: what sets are published as is read, and anything else is one line that names the row."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from evals import parquet_rows
from evals.json_lines import DEEPEST, LARGEST_ROW, DataFileError, Row
from evals.prompts import instruction_prompt, training_prompt
from evals.tokenisation import IGNORED_LABEL, NothingFitsError, fitted, tokenise_row
from evals.training_rows import read_training_rows, with_prompts

TURNS = [("system", "0"), ("user", "1"), ("assistant", "2"), ("user", "3 4"), ("assistant", "5"), ("user", "6")]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
SHARED = [{"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": text} for role, text in TURNS]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}Write {{ m.role }} : {{ m.content }} # {% endfor %}"
    "{% if add_generation_prompt %}Response : {% endif %}"
)


def written(path: Path, rows: list[Row], form: str) -> Path:
    """The rows as JSON lines, as one array, or as Parquet, under a name that says nothing."""
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows, indent=1) if form == "array" else "".join(json.dumps(r) + "\n" for r in rows))
    return path


def asked(rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    return [(training_prompt(row), row["response"]) for row in with_prompts(rows, tokenizer)]


@pytest.mark.parametrize("form", ["lines", "array", "parquet"])
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"query": "1\n2", "response": "3", "type": "x", "input": None}, {"query": "4", "response": "5"}],
            [(instruction_prompt("1", "2"), "3"), (instruction_prompt("4"), "5")],
        ),
        (
            [
                {"instruction": "1\n2", "input": "", "output": "3", "text": "whole"},
                {"instruction": "4", "input": "5", "output": ""},
                {"instruction": "6", "output": "7"},
            ],
            [(instruction_prompt("1\n2"), "3"), (instruction_prompt("4", "5"), ""), (instruction_prompt("6"), "7")],
        ),
        (
            [{"messages": MESSAGES}, {"messages": MESSAGES[1:3]}, {"messages": MESSAGES[2:3]}],
            [(instruction_prompt("0\n\n1\n\n2\n\n3 4"), "5"), (instruction_prompt("1"), "2"), ("", "2")],
        ),
        (
            [{"id": 1, "conversations": SHARED}, {"id": 2, "conversations": SHARED[1:3]}],
            [(instruction_prompt("0\n\n1\n\n2\n\n3 4"), "5"), (instruction_prompt("1"), "2")],
        ),
        ([{"text": "1 2"}, {"text": "3"}], [("", "1 2"), ("", "3")]),
    ],
)
def test_published_forms_are_read(
    rows: list[Row], expected: list[tuple[str, str]], form: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    assert asked(read_training_rows(written(tmp_path / "rows", rows, form)), tokenizer) == expected


@pytest.mark.parametrize("row", [{"messages": MESSAGES}, {"conversations": SHARED}])
def test_a_chat_is_put_as_the_models_template_puts_it_with_one_bos(
    row: Row, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = TEMPLATE
    (made,) = with_prompts(read_training_rows(written(tmp_path / "rows", [row], "lines")), chatting)
    tokenised = tokenise_row(chatting, made, 512)
    whole = chatting.apply_chat_template(MESSAGES[:4], tokenize=False, add_generation_prompt=True) + "5</s>"
    assert tokenised.input_ids == chatting(whole, add_special_tokens=False).input_ids
    assert tokenised.input_ids.count(chatting.bos_token_id) == 1
    assert [label for label in tokenised.labels if label != IGNORED_LABEL] == tokenised.input_ids[-2:]


def test_what_a_template_refuses_is_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no\nsystem') }}{% endif %}"
    rows = read_training_rows(written(tmp_path / "rows", [{"messages": MESSAGES[1:]}, {"messages": MESSAGES}], "lines"))
    with pytest.raises(DataFileError, match=r"rows, line 2: the model's chat template refuses it: no system$"):
        with_prompts(rows, chatting)


def test_all_of_a_text_is_learnt_from(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (row,) = read_training_rows(written(tmp_path / "rows", [{"text": "1 2"}], "lines"))
    assert tokenise_row(tokenizer, row, 512).labels[1:] == tokenizer("1 2</s>").input_ids[1:]


GOOD = {"query": "1", "response": "2"}


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        (GOOD, {"question": "1", "answer": "2"}, "('answer', 'question') are none of those that rows have: query and"),
        (GOOD, {"query": "1", "response": None}, "('query') are none"),
        (GOOD, {}, "(none) are none"),
        (GOOD, {"text": "1"}, "it has text, and the rows before it have query and response"),
        (GOOD, {"instruction": "1", "output": "2"}, "it has instruction and output"),
        (GOOD, GOOD | {"input": 5}, 'field "input" is not a string'),
        (GOOD, {"query": ["1"], "response": "2"}, 'field "query" is not a string'),
        (GOOD, {"query": "1", "response": "\udc00"}, "half a surrogate pair"),
        ({"instruction": "1", "output": "2"}, {"instruction": "1", "output": True}, 'field "output" is not a string'),
        ({"instruction": "1", "output": "2"}, {"instruction": 1e999, "output": ""}, 'field "instruction" is not'),
        ({"instruction": "1", "output": "2"}, {"instruction": "", "output": "", "input": []}, 'field "input" is not'),
        ({"text": "1"}, {"text": {"a": 1}}, 'field "text" is not a string'),
        ({"messages": MESSAGES}, {"messages": "1"}, 'field "messages" is no list of turns'),
        ({"messages": MESSAGES}, {"messages": []}, "no turn of the assistant"),
        ({"messages": MESSAGES}, {"messages": MESSAGES[:2]}, "no turn of the assistant"),
        ({"messages": MESSAGES}, {"messages": [5]}, 'turn 1 of "messages" has no "role" and "content"'),
        ({"messages": MESSAGES}, {"messages": SHARED}, 'turn 1 of "messages" has no "role" and "content"'),
        (
            {"messages": MESSAGES},
            {"messages": [*MESSAGES[:2], {"role": "judge", "content": ""}]},
            "'judge' and none of",
        ),
        ({"messages": MESSAGES}, {"messages": [{"role": [], "content": ""}]}, '"role" is not a string'),
        ({"messages": MESSAGES}, {"messages": [*MESSAGES[:2], {"role": "assistant", "content": None}]}, "not a string"),
        ({"conversations": SHARED}, {"conversations": [{"from": "human", "value": "\ud83d"}]}, "half a surrogate pair"),
        ({"conversations": SHARED}, {"messages": MESSAGES}, "it has messages, and the rows before it have convers"),
    ],
)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_row_that_is_none_is_named(first: Row, second: Row, complaint: str, form: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows", [first, second, first], form)
    with pytest.raises(DataFileError) as error:
        read_training_rows(path)
    place = "line 2" if form == "lines" else "object 2"
    assert str(error.value).startswith(f"{path}, {place}: ") and complaint in str(error.value)
    assert "\n" not in str(error.value)


NESTED = json.dumps(GOOD)[:-1] + ', "x": ' + "[" * DEEPEST + "]" * DEEPEST + "}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (NESTED.encode(), "line 1: nested deeper"),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1: not valid JSON: nested too deeply"),
        (b'{"text": "' + b"x" * LARGEST_ROW + b'"}', "line 1: larger than a row"),
        (b'[{"text": "1"}, {"text": "' + b"x" * LARGEST_ROW + b'"}]', "object 2: larger than a row"),
        (b'{"text": "1\0"}', "line 1: not valid JSON"),
        (b"[]", "holds no rows"),
        (b"PAR1", "no readable Parquet file"),
        (b"PAR1" + b"\0" * 400 + b"\xff\xff\xff\x7fPAR1", "no readable Parquet file"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(DataFileError) as error:
        read_training_rows(path)
    assert complaint in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_damaged_parquet_is_refused_wherever_it_is_cut_or_names_its_row(tmp_path: Path) -> None:
    path = written(tmp_path / "rows", [{"text": str(i) * 50} for i in range(200)], "parquet")
    whole = path.read_bytes()
    for end in range(4, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(DataFileError, match="no readable Parquet file"):
            read_training_rows(path)
    with pytest.raises(DataFileError, match='row 1: field "text" is not a string'):
        read_training_rows(written(path, [{"text": 1}], "parquet"))
    with pytest.raises(DataFileError, match=r"none of its columns \(question\)"):
        read_training_rows(written(path, [{"question": "1"}], "parquet"))
    with pytest.raises(DataFileError, match="row 2: its fields"):
        read_training_rows(written(path, [{"text": "1"}, {"text": None}], "parquet"))
    with pytest.raises(DataFileError, match="holds no rows"):
        read_training_rows(Path(pq.write_table(pa.table({"text": pa.array([], pa.string())}), path) or path))


def test_parquet_that_unpacks_to_more_than_it_may_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "rows", [{"text": "1" * 10_000}] * 5000, "parquet")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(parquet_rows, "LARGEST_FILE", 1 << 20)
    with pytest.raises(DataFileError, match="unpacks to more than"):
        read_training_rows(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "rows")
    with pytest.raises(DataFileError, match="rows: cannot be read: "):
        read_training_rows(tmp_path / "rows")


def test_rows_without_anything_of_their_response_go_and_cut_ones_are_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def row(prompt: int, response: int) -> Row:
        return {"prompt": "1 " * prompt, "response": "2 " * response}

    # with <s> before and </s> after: 10 tokens, 11, prompts of 10 and more, of 9
    rows = [row(4, 4), row(4, 5), row(9, 1), row(20, 3), row(8, 9)]
    found = fitted(tokenizer, rows, 10)
    assert (found.cut, found.dropped) == (2, 2)
    assert found.rows == [tokenise_row(tokenizer, rows[i], 10) for i in (0, 1, 4)]
    assert fitted(tokenizer, rows, 25).cut == fitted(tokenizer, rows, 25).dropped == 0
    with pytest.raises(NothingFitsError, match="the shortest prompt has 10 tokens"):
        fitted(tokenizer, rows[2:4], 10)
    assert len(fitted(tokenizer, rows[2:4], 11).rows) == 1
