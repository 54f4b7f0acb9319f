"""Which methods there are: a new one is its file and a line here."""

from dataclasses import fields
from typing import Any

from baselines.afm import Afm
from baselines.asvd import Asvd
from baselines.flap import Flap
from baselines.fwsvd import Fwsvd
from baselines.svd import Svd
from impact.interface import Method
from impact.method import Impact

METHODS: dict[str, type[Method]] = {method.name: method for method in (Svd, Fwsvd, Asvd, Afm, Flap, Impact)}


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """The method with its settings. Raises KeyError for an unknown method and ValueError for an unknown setting."""
    method = METHODS[name]
    known = {f.name for f in fields(method) if f.init}  # type: ignore[arg-type]
    if unknown := set(settings) - known:
        raise ValueError(
            f"{name} has no setting {', '.join(sorted(unknown))}; it has: {', '.join(sorted(known)) or 'none'}"
        )
    return method(**settings)
