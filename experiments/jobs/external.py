"""Checkpoints that the user brought (--external NAME=PATH, --model-dir): what identifies one."""

import hashlib
import re
from pathlib import Path

from experiments.errors import UserError
from experiments.jobs.store import checksum

HUB = "hub"
"""Stands for the hash of a checkpoint that is no directory here."""
_NAME = re.compile(r"\w[\w .+-]{0,59}")  # it stands in tables, figures and Markdown
_HASHED = ("*.json", "*.txt", "*.model", "*.jinja")  # config and tokenizer


def named_checkpoints(texts: list[str]) -> dict[str, str]:
    """NAME=PATH arguments by name; a directory that exists is made absolute. Raises UserError for another form."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, place = text.partition("=")
        if not (name and separator and place):
            raise UserError(f"--external takes NAME=PATH, a directory or a name on the hub, not '{text}'")
        if not _NAME.fullmatch(name):
            raise UserError(f"--external: a name has up to 60 letters, digits, blanks and . + - _, not {name!r}")
        if name in found:
            raise UserError(f"--external: two checkpoints are called '{name}'")
        found[name] = str(Path(place).resolve()) if Path(place).exists() else place
    return found


def checkpoint_hash(place: str) -> str:
    """A hash of a directory's config, tokenizer and weights; HUB for a name.

    Raises UserError for a directory without config or weights.
    """
    directory = Path(place)
    if not directory.exists():
        if directory.is_absolute() or place.startswith(".") or place.count("/") > 1:
            raise UserError(f"--external: there is no {place}")
        return HUB
    if not (directory / "config.json").is_file():
        raise UserError(f"{place} is no model: it holds no config.json")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{place} holds no safetensors; pickled weights are not loaded")
    described = sorted(path for pattern in _HASHED for path in directory.glob(pattern))
    parts = [f"{path.name} {checksum(path)}" for path in [*described, *weights]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
