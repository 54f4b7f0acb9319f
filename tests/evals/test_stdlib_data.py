"""Answers that are the standard library's numbers and collections: they equal what plain Python says, and no more."""

# ruff: noqa: E501

from typing import Any

import pytest

from evals.execution.inside.plain_data import ClosedError, decode, encode
from evals.execution.programs import Checks, run_programs

LIBRARY = {
    "Fraction(-3, 2)": "-1.5",
    "Decimal('0.250')": "0.25",
    "Decimal('-0E+3')": "0",
    "Decimal(7) / 8": "Fraction(7, 8)",
    "deque([1, 2, 3], maxlen=2)": "deque([2, 3])",
    "array('d', [0.1, 2])": "array('f', [0, 2]).__class__('d', [0.1, 2])",
    "array('u', 'ab')": "array('u', 'ab')",
    "{'b': 1, 'a': 2}.keys()": "{'a', 'b'}",
    "{'b': [1]}.items()": "{'b': [1]}.items()",
    "OrderedDict(a=1).keys()": "{'a'}",
    "UserDict(a=1).keys()": "{'a'}",
    "OrderedDict(b=1, a=2)": "OrderedDict(b=1, a=2)",
    "defaultdict(list, a=[1])": "{'a': [1]}",
    "Counter('aab')": "{'a': 2, 'b': 1}",
    "Counter(a=1)": "Counter(a=1, b=0)",
    "ChainMap({'a': 1}, {'a': 2, 'b': 3})": "{'b': 3, 'a': 1}",
    "UserList([1, 2])": "[1, 2]",
    "UserString('ab')": "'ab'",
    "type('S', (str,), {})('ab')": "'ab'",
    "type('F', (Fraction,), {})(1, 2)": "0.5",
    "MappingProxyType({'a': 1})": "{'a': 1}",
    "bytearray(b'ab')": "b'ab'",
    "memoryview(array('i', [1, 2]))": "array('i', [1, 2])",
    "[Fraction(1, 3), {Decimal('1.5'): deque()}]": "[Fraction(1, 3), {1.5: deque()}]",
}
IMPORTS = (
    "from array import array\nfrom collections import *\nfrom decimal import Decimal\n"
    "from fractions import Fraction\nfrom types import MappingProxyType\n"
)


def test_the_librarys_numbers_and_collections_equal_what_they_equal_in_plain_python() -> None:
    names: dict[str, Any] = {}
    exec(IMPORTS, names)
    for value, equal in LIBRARY.items():
        assert eval(f"({value}) == ({equal})", names), value
        arrived, sent = decode(encode(eval(value, names))), eval(value, names)
        assert arrived == sent or isinstance(sent, type({}.values()))
        assert repr(arrived) == repr(sent) or any(name in value for name in ("type(", ".keys", "memory", "defaultdict"))
    programs = [
        (f"{IMPORTS}def f(): return {value}", Checks(IMPORTS, "f", f"assert f() == {equal}"))
        for value, equal in LIBRARY.items()
    ]
    programs += [(program, Checks(IMPORTS, "f", "assert f() != 9")) for program, _ in programs]
    programs += [
        (f"{IMPORTS}def f(x): return x", Checks(IMPORTS, "f", f"assert f({value}) == {equal}"))
        for value, equal in LIBRARY.items()
    ]
    assert [
        program for (program, _), outcome in zip(programs, run_programs(programs), strict=True) if not outcome.passed
    ] == []
    unequal = {
        "OrderedDict(b=1, a=2)": "OrderedDict(a=2, b=1)",
        "deque([1])": "[1]",
        "{1: 2}.keys()": "[1]",
        "{1: 2}.values()": "{1: 2}.values()",
        "Decimal('0.1')": "0.1",
        "Fraction(1, 3)": "1 / 3",
        "type('F', (Fraction,), {'__eq__': lambda a, b: True, '__hash__': None})(1, 2)": "0.25",
        "type('D', (Decimal,), {'__eq__': lambda a, b: True, '__str__': lambda a: '7'})(1)": "7",
    }
    programs = [
        (f"{IMPORTS}def f(): return {value}", Checks(IMPORTS, "f", f"assert f() == {equal}"))
        for value, equal in unequal.items()
    ]
    assert [
        program for (program, _), outcome in zip(programs, run_programs(programs), strict=True) if outcome.passed
    ] == []
    drawn = Checks("", "f", "assert list(f()) == [1, 2]")
    assert run_programs([("def f(): return {'a': 1, 'b': 2}.values()", drawn)])[0].passed


BAD_PARTS: list[tuple[object, ...]] = [
    ("Fraction", [1, 0]), ("Fraction", ["1e999999999", 1]), ("Fraction", 1), ("Decimal", "x"), ("Decimal", 1), ("x", []),
    ("deque", [-1, []]), ("deque", []), ("array", ["z", []]), ("array", ["b", [300]]), ("keys", [[]]), ("items", [1]),
    ("Counter", [1]), ("namedtuple", []), ("abc", []), ("UserString", 1), ("memoryview", ["zz", b""]), (1, []), ([], []),
    ("Decimal",), ("Decimal", "1", "2"), ("mappingproxy", []), ("OrderedDict", [1]), ("UserList", {}),
]  # fmt: skip


@pytest.mark.parametrize("parts", BAD_PARTS)
def test_a_content_of_no_such_kind_is_refused(parts: tuple[object, ...]) -> None:
    with pytest.raises(ClosedError):
        decode(b"k" + encode(parts)[1:])
