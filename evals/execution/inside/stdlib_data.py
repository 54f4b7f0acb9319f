"""The standard library's further numbers and collections as plain data: what each holds, and how it is made of that.

A class is known by its name and module, as importing it would cost a program more time than most take to run. The
base classes' own methods read the content, and what arrives is checked: nothing of a program's is run to build it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs as much as starting Python
    from typing import Any

_READ: "dict[tuple[str, str], tuple[str, Any]]" = {
    ("fractions", "Fraction"): ("Fraction", lambda base, value: [value._numerator, value._denominator]),
    ("decimal", "Decimal"): ("Decimal", lambda base, value: base.__str__(value)),
    ("array", "array"): ("array", lambda base, value: [base.typecode.__get__(value), base.tolist(value)]),
    ("collections", "deque"): ("deque", lambda base, value: [base.maxlen.__get__(value), [*base.__iter__(value)]]),
    ("collections", "OrderedDict"): ("OrderedDict", lambda base, value: [*base.items(value)]),
    ("collections", "Counter"): ("Counter", lambda base, value: dict(dict.items(value))),
    ("collections", "ChainMap"): ("ChainMap", lambda base, value: [*value.maps]),
    ("collections", "UserDict"): ("UserDict", lambda base, value: value.data),
    ("collections", "UserList"): ("UserList", lambda base, value: value.data),
    ("collections", "UserString"): ("UserString", lambda base, value: value.data),
    ("builtins", "mappingproxy"): ("mappingproxy", lambda base, value: dict(value)),
    ("builtins", "bytearray"): ("bytearray", lambda base, value: bytes(value)),
    ("builtins", "memoryview"): ("memoryview", lambda base, value: [value.format, value.tobytes()]),
}
# Views of dictionaries, and of mappings written in Python.
for _view, _class in (("keys", "KeysView"), ("values", "ValuesView"), ("items", "ItemsView")):
    _READ["builtins", f"dict_{_view}"] = _READ["collections.abc", _class] = (_view, lambda base, value: [*value])


def described(value: object) -> "tuple[str, Any] | None":
    """The kind and the content of a value of these classes or their subclasses; None for any other."""
    for base in type(value).__mro__:
        if found := _READ.get((base.__module__, base.__qualname__)):
            kind, read = found
            return kind, read(base, value)
    return None


def built(kind: str, content: "Any") -> "Any":
    """The value of that kind and content. Raises ValueError, TypeError or ArithmeticError for a content of no such."""
    expected = {"Decimal": str, "UserString": str, "bytearray": bytes}
    expected |= dict.fromkeys(("Counter", "UserDict", "mappingproxy"), dict)
    if type(content) is not expected.get(kind, list):
        raise TypeError(kind)
    if kind == "Fraction":
        if not all(type(part) is int for part in content):  # it would read texts, such as "1e999999999"
            raise TypeError(kind)
        from fractions import Fraction

        numerator, denominator = content
        return Fraction(numerator, denominator)
    if kind == "Decimal":
        from decimal import Decimal

        return Decimal(content)
    if kind == "array":
        from array import array

        code, items = content
        return array(code, list(items))
    if kind == "memoryview":
        code, data = content
        return memoryview(data).cast(code)
    if kind in ("keys", "values", "items"):
        pairs = {"keys": dict.fromkeys, "values": lambda items: dict(enumerate(items)), "items": dict}
        return getattr(pairs[kind](content), kind)()
    if kind == "mappingproxy":
        return type(type.__dict__)(content)
    if kind == "bytearray":
        return bytearray(content)
    import collections

    if kind == "deque":
        most, items = content
        return collections.deque(items, most)
    if kind == "ChainMap":
        return collections.ChainMap(*content)
    if kind not in ("OrderedDict", "Counter", "UserDict", "UserList", "UserString"):
        raise ValueError(kind)
    return getattr(collections, kind)(content)
