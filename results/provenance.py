"""What a table's numbers come from: what its heading must say, and the rest, which is listed."""

from collections.abc import Collection, Mapping

BY = ("command",)
OF_MEASUREMENTS = ("model", "date", *BY)
OF_A_RUN = ("preset", *OF_MEASUREMENTS)


def check_provenance(provenance: Mapping[str, str], required: Collection[str], of: str) -> None:
    """Raises ValueError, naming what the provenance ``of`` a table lacks, if it lacks something required."""
    if missing := [key for key in required if not provenance.get(key)]:
        raise ValueError(f"the provenance of {of} lacks {', '.join(missing)}")


def further_provenance(provenance: Mapping[str, str], required: Collection[str]) -> list[str]:
    """A line of a Markdown list for each entry that the heading does not say."""
    return [f"- {key}: {value}" for key, value in provenance.items() if key not in required]
