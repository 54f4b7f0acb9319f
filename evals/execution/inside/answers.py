"""Whether a program's answer is the reference's, by EvalPlus's rules (evalplus/evalplus@26d6d00, base tests)."""

from math import isclose, isinf, isnan

RELATIVE, ABSOLUTE = 1e-7, 1e-6


def agree(answer: object, expected: object, rule: str, tolerance: float) -> bool:
    """Equality of values ("value"), of sets ("set"), or of whether there is a match ("not none").

    Floating-point numbers, and lists or tuples of them, may differ by RELATIVE and by `tolerance`, ABSOLUTE if it is
    0. A reference's iterator is drawn once.
    """
    if rule == "set":
        return set(answer) == set(expected)  # type: ignore[call-overload]
    if rule == "not none":
        found = expected if isinstance(expected, bool) else expected is not None
        return (answer if isinstance(answer, bool) else answer is not None) == found
    if hasattr(type(expected), "__next__"):
        return list(answer) == list(expected)  # type: ignore[call-overload]
    if answer == expected:
        return True
    if not tolerance and not _floats(expected):
        return False
    return _close(answer, expected, tolerance or ABSOLUTE)


def _floats(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _close(answer: object, expected: object, tolerance: float) -> bool:
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        assert isinstance(answer, list | tuple)
        return len(answer) == len(expected) and all(
            _close(*pair, tolerance) for pair in zip(answer, expected, strict=True)
        )
    if not isinstance(expected, int | float) or not isinstance(answer, int | float):
        return answer == expected
    if isnan(expected) or isinf(expected):
        return False
    return isclose(answer, expected, rel_tol=RELATIVE, abs_tol=tolerance)
