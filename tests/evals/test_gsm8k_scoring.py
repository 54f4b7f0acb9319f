import pytest

from evals.benchmarks import gsm8k


def row(gold: str) -> dict[str, str]:
    return {"question": "?", "answer": f"work\n#### {gold}"}


@pytest.mark.parametrize(
    ("tail", "read"),
    [
        ("18", 18),
        ("$18", 18),
        ("18.", 18),
        ("-5", -5),
        ("+5", 5),
        ("1,234", 1234),
        ("1,234,567", 1234),  # one separator a number
        ("$1,234.50", 1234),
        ("0.5", 0),  # half to even
        ("1.5", 2),
        ("2.5", 2),
        (".5", 0),
        (",7", 7),
        ("3/4", 1),
        ("1/2", 0),
        ("-3/2", -2),
        ("6/0", 6),
        ("6/00", None),
        ("/5", None),
        ("9" * 400, None),
        ("-" + "9" * 400, None),
        ("9" * 400 + "/3", None),
        ("about 12 or 13", 12),
        ("twelve", None),
        ("", None),
    ],
)
def test_number_read_from_the_tail(tail: str, read: int | None) -> None:
    assert gsm8k.extract_answer(f" First, 99. The answer is: {tail}") == read


@pytest.mark.parametrize(
    ("completion", "read"),
    [
        ("The answer is: 1. No. The answer is: 2", 2),
        ("the answer is: 3", None),
        ("The answer is 3", None),
        ("The answer is:3", None),
        ("The answer is:\n3", None),
        ("The answer is: \n3", 3),
        ("#### 3", None),
        ("The answer is: 3. The answer is: none", None),
    ],
)
def test_only_the_text_after_the_last_mark_counts(completion: str, read: int | None) -> None:
    assert gsm8k.extract_answer(completion) == read


def test_verdict() -> None:
    verdict = gsm8k.score("The answer is: 1,080", row("1,080"))
    assert (verdict.correct, verdict.extracted, verdict.gold) == (True, "1080", "1080")
    verdict = gsm8k.score("The answer is: 1081", row("1,080"))
    assert (verdict.correct, verdict.extracted) == (False, "1081")
    verdict = gsm8k.score("1080", row("1,080"))
    assert (verdict.correct, verdict.extracted) == (False, None)
    # a gold with two commas can be matched only by an answer without any
    assert not gsm8k.score("The answer is: 109,200,000", row("109,200,000")).correct
    assert gsm8k.score("The answer is: 109200000", row("109,200,000")).correct


@pytest.mark.parametrize("answer", ["no mark", "#### twelve", "#### 1.5", "####18"])
def test_unreadable_gold(answer: str) -> None:
    with pytest.raises(ValueError, match="no integer after"):
        gsm8k.gold_answer({"answer": answer})
