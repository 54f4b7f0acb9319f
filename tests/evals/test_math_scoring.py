import pytest

from evals.benchmarks import math


@pytest.mark.parametrize(
    ("solution", "content"),
    [
        (r"so $\boxed{3}$.", "3"),
        (r"$\boxed{1}$ then $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{}", ""),
        (r"\boxed 2", None),
        (r"\boxed 2 and {x}", None),
        (r"\boxed{2", None),
        (r"\fbox{2}", None),
        ("2", None),
    ],
)
def test_boxed_answer(solution: str, content: str | None) -> None:
    assert math.boxed_answer(solution) == content


@pytest.mark.parametrize(
    ("completion", "read"),
    [
        ("The answer is: 3", "3"),
        ("The answer is: 1. The answer is:  3. ", "3"),
        ("The answer is: $x$.\nMore. text", "$x$"),
        ("The answer is: 3..", "3."),
        ("The answer is: 0.5", "0.5"),
        ("The answer is: 3 .", "3"),
        ("The answer is: a\nb", "a\nb"),
        ("The answer is: ", ""),
        ("the answer is: 3", None),
        (r"\boxed{3}", None),
    ],
)
def test_extraction(completion: str, read: str | None) -> None:
    assert math.extract_answer(completion) == read


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a\nb", "ab"),
        (r"10\!000", "10000"),
        (r"\\pi", r"\pi"),
        (r"\dfrac{1}{2}", r"\tfrac{1}{2}"),
        (r"\left(1,2\right)", "(1,2)"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"\$5", "5"),
        (r"5\text{ cm}", "5"),
        (r"(-\infty, 2]", r"(-\infty,2]"),
        (r"\left[0, \frac12\right)", r"[0,\frac{1}{2})"),
        (r"\text{even}", r"\text{even}"),
        (r"50\%", "50"),
        (".5", r"\frac{1}{2}"),
        ("{.5}", "{0.5}"),
        ("x, .5", "x, 0.5"),
        ("x=5", "5"),
        ("k = 5", "5"),  # "k " has two characters
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\sqrt33", r"\sqrt{3}3"),
        ("1, 2", "1,2"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        (r"\frac123", r"\frac{1}{2}3"),
        (r"\frac 1 2", r"\frac{1}{2}"),
        ("1/2", r"\frac{1}{2}"),
        ("-1/2", r"\frac{-1}{2}"),
        ("1 /2/ 3", "1/2/3"),  # two slashes
        ("", ""),
    ],
)
def test_equivalent(first: str, second: str) -> None:
    assert math.is_equivalent(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (r"\frac{2}{4}", r"\frac{1}{2}"),
        ("50%", "50"),
        ("$5$", "5"),
        ("0.50", r"\frac{1}{2}"),
        ("-0.5", r"-\frac{1}{2}"),
        ("x=y=5", "5"),
        ("abc=5", "5"),
        ("+1/2", r"\frac{1}{2}"),
        ("01/2", r"\frac{1}{2}"),
        ("x/2", r"\frac{x}{2}"),
        ("12^{1 / 7}", "12^{1/7}"),  # one slash without integers beside it: neither side is normalised
        ("5 cm", "5"),
        ("1,000", "1000"),
    ],
)
def test_not_equivalent(first: str, second: str) -> None:
    assert not math.is_equivalent(first, second)


@pytest.mark.parametrize(
    "broken",
    [
        *(r"\frac", r"1\sqrt", r"5\text{ a}\text{ b}", r"\frac{1}{2}\frac", r"\sqrt\sqrt2"),
        *("x/2", "12^{1/7}", "/", "1/2.0", r"\pi/4"),
    ],
)
def test_what_has_no_normal_form_is_compared_as_it_stands(broken: str) -> None:
    with pytest.raises(ValueError):
        math.normalise(broken)
    assert math.is_equivalent(broken, broken)
    assert not math.is_equivalent(broken, broken + " ")
    # the other side is then not normalised either
    assert not math.is_equivalent(broken, "1")


def test_half_a_fraction_leaves_the_whole_text_alone() -> None:
    assert math.normalise(r"\frac12+\frac3") == r"\frac12+\frac3"


def test_verdict() -> None:
    gold_row = {"problem": "?", "solution": r"so $\boxed{\dfrac{1}{2}}$"}
    verdict = math.score("The answer is: 1/2.", gold_row)
    assert (verdict.correct, verdict.extracted, verdict.gold) == (True, "1/2", r"\dfrac{1}{2}")
    assert not math.score("The answer is: $1/2$", gold_row).correct
    assert not math.score("1/2", gold_row).correct
    # a gold without a braced box is never matched, not even by an empty answer
    for completion in ("The answer is: 2", "The answer is: "):
        assert not math.score(completion, {"solution": r"\boxed 2"}).correct
