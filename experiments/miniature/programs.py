"""Generated programming tasks in the published schemas of HumanEval and MBPP: a few steps over a list of integers.

What a step does is written once, as Python text, and the expected results come from running that text. Wording, names
and the way of writing the same program are drawn at random, so that no task determines its response (see problems.py).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from experiments.miniature.splits import Domain, Row, Source, write

INSTRUCTION = "Create a Python script for this problem:\n"
INDENT = "    "

SENTENCES = ("Write a function to ", "Write a Python function to ")
DOCSTRINGS = ("Given numbers, ", "With the numbers given, ", "From a list of numbers, ")
LINKS = (", then ", ", next ", ", and then ")
ENDINGS = (" and return ", " and give ")

VERBS = ("find", "make", "get", "build", "pick", "give")
NOUNS = ("values", "result", "answer", "part", "output", "summary")
ARGUMENTS = ("numbers", "items", "data", "row", "scores", "ages")
VARIABLES = ("kept", "out", "new", "found", "temp")
ITEMS = ("x", "n", "item", "number")

STEPS = (2, 2, 3)
"""How many steps a program has before its end, drawn from these."""
LARGEST_INPUT = 20
INPUT_LENGTHS = (5, 6)


@dataclass(frozen=True)
class Operation:
    """One kind of step.

    says: its wording in the grammar of `write`, `<c>` the constant. code: ways of writing it with `{v}` the list, `{c}`
    the constant and `{x}` an item: a filter's condition, a map's new item, the result of any other.
    constants: range of the constant.
    """

    group: str
    says: str
    code: tuple[str, ...]
    constants: tuple[int, int] | None = None


_KEEP = "[keep|take] [those|the ones]"
OPERATIONS = {
    "above": Operation("filter", f"{_KEEP} [above|greater than] <c>", ("{x} > {c}", "{c} < {x}"), (2, 19)),
    "below": Operation("filter", f"{_KEEP} [below|less than] <c>", ("{x} < {c}", "{c} > {x}"), (2, 19)),
    "multiples": Operation("filter", f"{_KEEP} divisible by <c>", ("{x} % {c} == 0", "not {x} % {c}"), (2, 9)),
    "even": Operation("filter", "[keep|take] the even ones", ("{x} % 2 == 0", "not {x} % 2")),
    "odd": Operation("filter", "[keep|take] the odd ones", ("{x} % 2 == 1", "{x} % 2")),
    "add": Operation("map", "add <c> to [each|all]", ("{x} + {c}", "{c} + {x}"), (2, 19)),
    "subtract": Operation("map", "subtract <c> from [each|all]", ("{x} - {c}",), (2, 19)),
    "multiply": Operation("map", "multiply [each|all] by <c>", ("{x} * {c}", "{c} * {x}"), (2, 9)),
    "square": Operation("map", "square [each|all]", ("{x} * {x}", "{x} ** 2")),
    "first": Operation("slice", "[keep|take] the first <c>", ("{v}[:{c}]",), (2, 4)),
    "last": Operation("slice", "[keep|take] the last <c>", ("{v}[-{c}:]",), (2, 4)),
    "skip": Operation("slice", "[skip|drop] the first <c>", ("{v}[{c}:]",), (1, 3)),
    "sort": Operation("order", "sort [them|the list]", ("sorted({v})",)),
    "descend": Operation("order", "sort [them|the list] downwards", ("sorted({v}, reverse=True)", "sorted({v})[::-1]")),
    "reverse": Operation("order", "reverse [them|the list]", ("{v}[::-1]", "list(reversed({v}))")),
    "sum": Operation("end", "[their sum|the sum|the total]", ("sum({v})",)),
    "count": Operation("end", "[their number|how many there are]", ("len({v})",)),
    "largest": Operation("end", "the [largest|maximum]", ("max({v})",)),
    "smallest": Operation("end", "the [smallest|minimum]", ("min({v})",)),
    "list": Operation("end", "[them|the list]", ("{v}",)),
}
GROUPS = {
    group: tuple(name for name, operation in OPERATIONS.items() if operation.group == group)
    for group in ("filter", "map", "slice", "order", "end")
}


@dataclass(frozen=True)
class Step:
    """An operation with its constant, 0 where it takes none."""

    name: str
    constant: int = 0

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.name]


Steps = tuple[Step, ...]
"""Any steps, each of another group, and one of the group "end"."""


@dataclass(frozen=True)
class Program:
    """Steps, their description, and the names that the task gives to the function and its argument."""

    steps: Steps
    question: str
    function: str
    argument: str

    @property
    def key(self) -> tuple[object, ...]:
        """What the program does, whatever it is called."""
        return self.steps


@cache
def _function(name: str) -> Callable[[Any, int], Any]:
    operation = OPERATIONS[name]
    code = operation.code[0].format(x="x", v="v", c="c")
    result = {"filter": f"[x for x in v if {code}]", "map": f"[{code} for x in v]"}.get(operation.group, code)
    function: Callable[[Any, int], Any] = eval(f"lambda v, c: {result}")
    return function


def results(steps: Steps, inputs: Sequence[list[int]]) -> list[Any]:
    """What a program makes of each input; None where it has no value, as the largest of no numbers."""
    functions = [(_function(step.name), step.constant) for step in steps]
    found = []
    for numbers in inputs:
        value: Any = numbers
        try:
            for function, constant in functions:
                value = function(value, constant)
        except ValueError:
            value = None
        found.append(value)
    return found


def _draw_input(rng: random.Random) -> list[int]:
    return [rng.randint(0, LARGEST_INPUT) for _ in range(rng.randint(*INPUT_LENGTHS))]


_PROBES = [_draw_input(random.Random(seed)) for seed in range(8)]


def _shortened(steps: Steps) -> Iterator[Steps]:
    """The programs without one of the steps; without its end, a program returns the list."""
    for i in range(len(steps) - 1):
        yield steps[:i] + steps[i + 1 :]
    if steps[-1].name != "list":
        yield (*steps[:-1], Step("list"))


@cache
def _is_sound(steps: Steps) -> bool:
    """Whether the result mostly exists, depends on the input, and would be another without any of the steps."""
    expected = results(steps, _PROBES)
    if expected.count(None) > 2 or len({str(result) for result in expected}) < 4:
        return False
    return all(
        sum(result not in (None, other) for result, other in zip(expected, results(shorter, _PROBES), strict=True)) >= 2
        for shorter in _shortened(steps)
    )


def _draw_step(group: str, rng: random.Random) -> Step:
    name = rng.choice(GROUPS[group])
    constants = OPERATIONS[name].constants
    return Step(name, rng.randint(*constants) if constants else 0)


def program(rng: random.Random) -> Program:
    """A task whose every step matters."""
    steps: Steps = ()
    while not steps or not _is_sound(steps):
        *others, end = GROUPS
        groups = [*rng.sample(others, rng.choice(STEPS)), end]
        steps = tuple(_draw_step(group, rng) for group in groups)
    said = [write(step.operation.says.replace("<c>", str(step.constant)), {}, rng) for step in steps]
    links = [*(rng.choice(LINKS) for _ in said[2:]), rng.choice(ENDINGS)]
    question = said[0] + "".join(link + words for link, words in zip(links, said[1:], strict=True))
    name = f"{rng.choice(VERBS)}_{rng.choice(NOUNS)}"
    return Program(steps, question, name, rng.choice(ARGUMENTS))


def body(steps: Steps, argument: str, rng: random.Random) -> list[str]:
    """One way of writing the program, as the lines of a function that are indented once.

    Each step is put around the expression so far, which may get a name in between. Filters and maps are comprehensions
    or loops; a filter and the map after it may be one of them.
    """
    item = rng.choice(ITEMS)
    free = rng.sample(VARIABLES, len(VARIABLES))
    lines: list[str] = []
    waiting = list(steps)

    def code(step: Step, value: str) -> str:
        return rng.choice(step.operation.code).format(x=item, v=value, c=step.constant)

    expression = name = argument
    while waiting:
        step = waiting.pop(0)
        if step.operation.group in ("filter", "map"):
            condition = code(step, "") if step.operation.group == "filter" else None
            if condition and waiting[0].operation.group == "map" and rng.random() < 0.5:
                step = waiting.pop(0)
            value = code(step, "") if step.operation.group == "map" else item
            if rng.random() < 0.3:
                name = free.pop()
                lines += [f"{name} = []", f"for {item} in {expression}:"]
                lines += [f"{INDENT}if {condition}:"] if condition else []
                lines += [INDENT * (2 if condition else 1) + f"{name}.append({value})"]
                expression = name
            else:
                expression = f"[{value} for {item} in {expression}{f' if {condition}' if condition else ''}]"
        else:
            expression = code(step, expression)
        if waiting and expression != name:
            # a comprehension over a comprehension is hard to read
            nested = " for " in expression and waiting[0].operation.group in ("filter", "map")
            if nested or rng.random() < 0.5:
                name = rng.choice((name, free.pop()))
                lines.append(f"{name} = {expression}")
                expression = name
    return [*lines, f"return {expression}"]


def definition(task: Program, argument: str, rng: random.Random) -> str:
    """The whole function, without a newline at its end."""
    return f"\n{INDENT}".join([f"def {task.function}({argument}):", *body(task.steps, argument, rng)])


def _mutants(steps: Steps) -> list[Steps]:
    """Programs without a step, with one of another kind or constant in its place, or with two in the other order."""
    mutants = list(_shortened(steps))
    for i, step in enumerate(steps):
        others = [Step(name, step.constant or 2) for name in GROUPS[step.operation.group] if name != step.name]
        if step.constant:
            others += [replace(step, constant=constant) for constant in (step.constant - 1, step.constant + 1)]
        mutants += [(*steps[:i], other, *steps[i + 1 :]) for other in others if other.constant]
    mutants += [(*steps[:i], steps[i + 1], steps[i], *steps[i + 2 :]) for i in range(len(steps) - 2)]
    return mutants


def telling_inputs(steps: Steps, count: int, rng: random.Random) -> list[list[int]]:
    """Inputs chosen so that mutants of the program give another result on one of them, as far as any input does."""
    inputs = [_draw_input(rng) for _ in range(60)]
    expected = results(steps, inputs)
    told = [
        {i for i, result in enumerate(results(mutant, inputs)) if result != expected[i]} for mutant in _mutants(steps)
    ]
    usable = [i for i, result in enumerate(expected) if result is not None]
    chosen: list[int] = []
    while len(chosen) < count:
        left = [places for places in told if places.isdisjoint(chosen)]
        best = max(usable, key=lambda i: sum(i in places for places in left))
        usable.remove(best)
        chosen.append(best)
    return [inputs[i] for i in chosen]


def _asserts(task: Program, name: str, inputs: Sequence[list[int]]) -> list[str]:
    pairs = zip(inputs, results(task.steps, inputs), strict=True)
    return [f"assert {name}({numbers}) == {result}" for numbers, result in pairs]


def _signature(task: Program, rng: random.Random) -> str:
    """HumanEval's prompt: the signature and a docstring."""
    return f'def {task.function}({task.argument}):\n{INDENT}"""{rng.choice(DOCSTRINGS)}{task.question}."""\n'


def _sentence(task: Program, rng: random.Random) -> str:
    """MBPP's prompt: a sentence."""
    return f"{rng.choice(SENTENCES)}{task.question}."


def training_row(task: Program, source: str, rng: random.Random) -> Row:
    """The prompt that evaluation shows, as one instruction without input, and the whole function as the response."""
    argument = task.argument
    if source == "humaneval":
        problem = _signature(task, rng).strip()
    else:
        example = _draw_input(rng)
        while results(task.steps, [example]) == [None]:
            example = _draw_input(rng)
        problem = "\n".join(['"""', _sentence(task, rng), *_asserts(task, task.function, [example]), '"""'])
    response = f"\n{definition(task, argument, rng)}"
    return {"query": INSTRUCTION + problem, "input": "", "response": response, "source": source}


def humaneval_row(task: Program, index: int, rng: random.Random) -> Row:
    """A test row of HumanEval's schema."""
    asserts = _asserts(task, "candidate", telling_inputs(task.steps, 5, rng))
    return {
        "task_id": f"tiny/{index}",
        "prompt": _signature(task, rng),
        "entry_point": task.function,
        "canonical_solution": "".join(f"{INDENT}{line}\n" for line in body(task.steps, task.argument, rng)),
        "test": "def check(candidate):\n" + "".join(f"{INDENT}{line}\n" for line in asserts),
    }


def mbpp_row(task: Program, index: int, rng: random.Random) -> Row:
    """A test row of the schema of MBPP's sanitized set."""
    return {
        "task_id": index,
        "prompt": _sentence(task, rng),
        "code": f"{definition(task, task.argument, rng)}\n",
        "test_imports": [],
        "test_list": _asserts(task, task.function, telling_inputs(task.steps, 3, rng)),
    }


CODE = Domain(
    sources={"humaneval": Source(program, humaneval_row), "mbpp": Source(program, mbpp_row)},
    training_row=training_row,
    first_share=(1, 2),
    phrases=(INSTRUCTION, *SENTENCES, *DOCSTRINGS, *LINKS, *ENDINGS, ", reverse=True)", ", ", "[::-1]"),
    pieces="|".join(
        (
            # quotes, but not the newline that belongs to the template's second half
            r'\n?"""(?:\n(?!\n))?',
            # the end of a line, the indent and the first word of the next
            r":?\n *(?:(?:def|for|if|return|assert) )?",
            # Python's words and operators take the spaces around them, so that names and digits stand alone
            r" ?(?:def|for|in|if|not) ",
            r" ?[-+*%<>=]+ ?\[?",
            # a word takes the space before it, one after it before a digit, and a bracket that opens a call
            r"[ _.]?[A-Za-z]+(?:\(| (?=\d))?",
            r"[^A-Za-z]",
        )
    ),
)
