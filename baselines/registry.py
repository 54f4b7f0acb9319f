"""Which methods there are: each that a file of this package defines, and IMPACT. A new one is its file."""

import re
from dataclasses import fields
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any

from impact.interface import Method

# Read before a module is imported: bitsandbytes, which quantization.py needs, takes seconds.
_SAYS_A_NAME = re.compile(r"^\s+name\s*[:=]", re.MULTILINE)


def _found() -> dict[str, type[Method]]:
    files = sorted(Path(__file__).parent.glob("*.py"))
    modules = [f"baselines.{file.stem}" for file in files if _SAYS_A_NAME.search(file.read_text())]
    found: dict[str, type[Method]] = {}
    for module in (*modules, "impact.method"):
        for thing in vars(import_module(module)).values():
            own = isinstance(thing, type) and issubclass(thing, Method) and thing.__module__ == module
            if own and "name" in vars(thing) and not isabstract(thing):
                if thing.name in found:
                    raise ValueError(f"{module} has a method '{thing.name}', as {found[thing.name].__module__} has")
                found[thing.name] = thing
    return found


METHODS = _found()


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """The method with its settings. Raises KeyError for an unknown method and ValueError for an unknown setting."""
    method = METHODS[name]
    known = {f.name for f in fields(method) if f.init}  # type: ignore[arg-type]
    if unknown := set(settings) - known:
        raise ValueError(
            f"{name} has no setting {', '.join(sorted(unknown))}; it has: {', '.join(sorted(known)) or 'none'}"
        )
    return method(**settings)
