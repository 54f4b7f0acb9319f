"""Generated problems in the published schemas of MetaMathQA, GSM8K and MATH.

Wording, order of steps and number of steps are drawn at random, as human solutions differ: a response that its
question determined would leave a trained model no loss, and its gradients would tell nothing about importance.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from experiments.miniature.splits import Domain, Row, Source, write

THINK = " Let's think step by step."
ANSWER_TAIL = "\nThe answer is: "

NAMES = ("Tom", "Ann", "Ben", "Mia", "Sam", "Eva", "Max", "Zoe", "Leo", "Ida")
OBJECTS = ("apples", "pears", "books", "pens", "coins", "cards", "eggs", "toys", "shells", "cakes")
OPENINGS = ("First", "We see", "Here", "Note")
LINKS = ("Then", "Next", "So", "Now", "And")
LARGEST = 99


@dataclass(frozen=True)
class Problem:
    """A question, the sentences of one solution and the answer; `key` names the numbers behind the wording."""

    key: tuple[object, ...]
    question: str
    steps: tuple[str, ...]
    answer: str
    level: int = 0
    subject: str = ""


@dataclass(frozen=True)
class Story:
    """A word problem: its text, the range of each number, and the plans that solve it, one step a line.

    A step reads `target=operand op operand label`; a plan's last target is the answer.
    """

    text: str
    ranges: Mapping[str, tuple[int, int]]
    plans: tuple[str, ...]


STORIES = (
    Story(
        "<A> has <a> <o>. <A> [buys|finds|gets] <b> more and [loses|sells|drops] <c>."
        " How many <o> [are left|does <A> have now|remain]?",
        {"a": (2, 15), "b": (2, 15), "c": (2, 15)},
        ("x=a+b [with more|adding]; r=x-c [left|remain]", "x=a-c [left|remain]; r=x+b [with more|adding]"),
    ),
    Story(
        "<A> [buys|gets] <a> [bags|boxes] of <b> <o> and <c> more <o>. <A> [loses|sells|drops] <d>."
        " How many <o> [are left|does <A> have now|remain]?",
        {"a": (2, 7), "b": (2, 7), "c": (2, 15), "d": (2, 15)},
        ("x=a*b [<o>|the <o>]; y=x+c [with more|adding]; r=y-d [left|remain]",
         "x=a*b [<o>|the <o>]; y=x-d [left|remain]; r=y+c [with more|adding]"),
    ),
    Story(
        "<A> has <a> <o>. <B> has <b> [more than <A>|more]. How many <o> [in all|altogether|do they have]?",
        {"a": (2, 30), "b": (2, 20)},
        ("x=a+b <B> has; r=a+x [in all|altogether|total]",),
    ),
    Story(
        "<A> [earns|makes] $<a> an hour and works <b> hours. <A> [spends|pays] $<c>. How much money [is left|remains]?",
        {"a": (2, 9), "b": (2, 9), "c": (2, 15)},
        ("x=a*b [earns|makes]; r=x-c [left|remain]",),
    ),
)  # fmt: skip


def _evaluate(left: int, operator: str, right: int) -> int | None:
    if operator == "/":
        return left // right if left % right == 0 else None
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def _in_some_order(plan: str, known: set[str], rng: random.Random) -> Iterator[tuple[str, str, str, str, str]]:
    """Steps of a plan as (target, left, operator, right, label), each after those it needs."""
    waiting = [re.match(r"(\w)=(\w+)([-+*/])(\w+) (.*)", step.strip()) for step in plan.split(";")]
    known = known | set("0123456789")
    while waiting:
        step = rng.choice([s for s in waiting if s is not None and {s[2], s[4]} <= known])
        waiting.remove(step)
        known.add(step[1])
        yield step[1], step[2], step[3], step[4], step[5]


def _tell(story: Story, rng: random.Random) -> Problem | None:
    """The story with random numbers, or None where a number on the way is not a natural one of two digits."""
    values: dict[str, object] = {name: rng.randint(*bounds) for name, bounds in story.ranges.items()}
    numbers = tuple(values.values())
    values |= zip("ABC", rng.sample(NAMES, 3), strict=True)
    values |= zip("op", rng.sample(OBJECTS, 2), strict=True)
    question = write(story.text, values, rng)
    steps = []
    for target, left, operator, right, label in _in_some_order(rng.choice(story.plans), set(story.ranges), rng):
        operands = [int(str(values.get(name, name))) for name in (left, right)]
        value = _evaluate(operands[0], operator, operands[1])
        if value is None or not 1 <= value <= LARGEST:
            return None
        values[target] = value
        if operator in "+*":
            rng.shuffle(operands)
        steps.append(f" {write(label, values, rng)} {operands[0]}{operator}{operands[1]}={value}.")
    return Problem((story.text, *numbers), question, tuple(steps), str(values["r"]))


def word_problem(rng: random.Random) -> Problem:
    """A problem in the manner of GSM8K: two or three steps with natural numbers below 100."""
    while True:
        story = rng.choice(STORIES)
        problem = _tell(story, rng)
        if problem is not None:
            return problem


def latex(value: Fraction) -> str:
    """An integer in digits, any other number as MATH writes a reduced fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    return ("-" if value < 0 else "") + rf"\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


Draft = tuple[str, list[str], Fraction | int]
"""Question in the grammar, equations of the solution, answer."""


def _reduction(numerator: int, denominator: int, rng: random.Random) -> list[str]:
    """The step from a fraction to its reduced form, written only where something changes."""
    value = Fraction(numerator, denominator)
    if value.denominator == denominator:
        return []
    divisor = gcd(numerator, denominator)
    plain = rf"\frac{{{numerator}}}{{{denominator}}}={latex(value)}"
    return [write(f"[|divide by {divisor} ]", {}, rng) + plain]


def _remainder(rng: random.Random, level: int) -> Draft:
    a, b, m = rng.randint(3, 9 + level), rng.randint(2, 9), rng.randint(3, 9)
    product = a * b
    question = f"What is the remainder when {a}*{b} is divided by {m}?"
    return question, [f"{a}*{b}={product}", f"{product}={product // m}*{m}+{product % m}"], product % m


def _linear_equation(rng: random.Random, level: int) -> Draft:
    a, b = rng.randint(2, 4 + level), rng.randint(1, 9)
    c = rng.randint(b + 1, b + 10 + 4 * level)
    question = f"[Solve|Find x if|Solve for x:] {a}x+{b}={c}."
    steps = [f"{c}-{b}={c - b}", f"{a}x={c - b}"]
    return question, [*steps, *_reduction(c - b, a, rng)], Fraction(c - b, a)


def _fraction_sum(rng: random.Random, level: int) -> Draft:
    b, d = rng.sample(range(2, 6 + level), 2)
    a, c = rng.randint(1, b - 1), rng.randint(1, d - 1)
    question = rf"[Find|Determine|Compute] \frac{{{a}}}{{{b}}}+\frac{{{c}}}{{{d}}}."
    total = a * d + c * b
    steps = [f"{a}*{d}={a * d}", f"{c}*{b}={c * b}"]
    rng.shuffle(steps)
    return (
        question,
        [*steps, f"{a * d}+{c * b}={total}", f"{b}*{d}={b * d}", *_reduction(total, b * d, rng)],
        Fraction(total, b * d),
    )


def _polynomial(rng: random.Random, level: int) -> Draft:
    a, b, c, x = (rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, 9), rng.randint(2, 3 + level // 2))
    question = f"[If f(x)={a}x^2+{b}x+{c}, what is f({x})?|Let f(x)={a}x^2+{b}x+{c}. Find f({x}).]"
    first, second = a * x * x, b * x
    steps = [f"{x}*{x}={x * x}", f"{a}*{x * x}={first}", f"{b}*{x}={second}"]
    return (
        question,
        [*steps, f"{first}+{second}={first + second}", f"{first + second}+{c}={first + second + c}"],
        (first + second + c),
    )


def _last_digit(rng: random.Random, level: int) -> Draft:
    a, b = rng.randint(11, 20 + 10 * level), rng.randint(11, 20 + 10 * level)
    question = f"[Find|Determine|Compute] the [last|units] digit of {a}*{b}."
    return question, [f"{a % 10}*{b % 10}={(a % 10) * (b % 10)}"], (a % 10) * (b % 10) % 10


SUBJECTS: tuple[tuple[str, Callable[[random.Random, int], Draft]], ...] = (
    ("Number Theory", _remainder),
    ("Algebra", _linear_equation),
    ("Prealgebra", _fraction_sum),
    ("Algebra", _polynomial),
    ("Number Theory", _last_digit),
)


def competition_problem(rng: random.Random) -> Problem:
    """A problem in the manner of MATH: five kinds, numbers that grow with the level from 1 to 5."""
    subject, draft = rng.choice(SUBJECTS)
    level = rng.randint(1, 5)
    text, equations, answer = draft(rng, level)
    question = write(text, {}, rng)
    steps = tuple(write(f"[| we get] {equation}.", {}, rng) for equation in equations)
    key = (draft.__name__, *re.findall(r"\d+", question))
    return Problem(key, question, steps, latex(Fraction(answer)), level, subject)


def explain(problem: Problem, rng: random.Random) -> str:
    """The solution's sentences, each with a word that leads on to it."""
    leads = [rng.choice(OPENINGS), *(rng.choice(LINKS) for _ in problem.steps[1:])]
    return " ".join(lead + step for lead, step in zip(leads, problem.steps, strict=True))


def training_row(problem: Problem, source: str, rng: random.Random) -> Row:
    """A row of MetaMathQA's schema.

    Every second response opens with the sentence that evaluation appends to the prompt and training does not: a
    pretrained model continues after it unprompted, one trained from scratch must have met it.
    """
    text = explain(problem, rng)
    opened = f"{THINK} {text}" if rng.random() < 0.5 else text
    return {"query": problem.question, "response": f"{opened}{ANSWER_TAIL}{problem.answer}", "source": source}


def gsm8k_row(problem: Problem, _index: int, rng: random.Random) -> Row:
    """A test row of GSM8K's schema."""
    return {"question": problem.question, "answer": f"{explain(problem, rng)}\n#### {problem.answer}"}


def math_row(problem: Problem, _index: int, rng: random.Random) -> Row:
    """A test row of MATH's schema."""
    return {
        "problem": problem.question,
        "solution": rf"{explain(problem, rng)} The answer is $\boxed{{{problem.answer}}}$.",
        "level": f"Level {problem.level}",
        "type": problem.subject,
    }


MATHEMATICS = Domain(
    sources={"gsm8k": Source(word_problem, gsm8k_row), "math": Source(competition_problem, math_row)},
    training_row=training_row,
    # MetaMathQA holds 240 k rows from GSM8K and 155 k from MATH
    first_share=(3, 5),
    phrases=(THINK, ANSWER_TAIL, r"\frac{", "}{"),
    # a word with the space before it, a digit, and any other single character
    pieces=r" ?[A-Za-z]+|[^A-Za-z]",
)
