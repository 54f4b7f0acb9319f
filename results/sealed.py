"""JSON records that carry their own checksum: the numbers of a table are read from such a record."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sealed"


def seal(record: Mapping[str, Any]) -> str:
    """The record as JSON text, with the SHA-256 of its content as a last entry."""
    content = json.loads(json.dumps(record))  # as a reader will have it: keys are strings, tuples are lists
    return json.dumps({**content, SEAL: _digest(content)}, indent=1)


def unseal(text: bytes) -> dict[str, Any]:
    """The record that `seal` wrote, without its checksum. Raises ValueError if it is not what was written.

    A record without a checksum is one of an earlier version and is taken as it is.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    written = record.pop(SEAL, None)
    if written is not None and written != _digest(record):
        raise ValueError("the content is not what was written")
    return record


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
