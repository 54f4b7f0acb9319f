"""Checkpoints that the user brought (--external NAME=PATH, --model-dir): what identifies one."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import UserError, causes
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


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turns what is wrong with a user's checkpoint, or goes wrong in loading it, into a UserError."""
    from impact.modeling_impact import CheckpointError  # slow: it imports transformers

    try:
        yield
    except CheckpointError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # the hub, safetensors, tokenizers and transformers have each their own
        what = f"{name} can't be loaded" if Path(name).exists() else f"no model {name}, neither here nor on the hub"
        raise UserError(f"{what}: {causes(error)}") from error


def checkpoint_hash(place: str, compressible: bool = False) -> str:
    """A hash of a directory's config, tokenizer and weights; HUB for a name.

    compressible: whether the model is to be compressed and not only measured. Raises UserError for a directory that
    holds none which can be (impact.compressible); of a name that is found out when it is loaded.
    """
    directory = Path(place)
    if not directory.exists():
        if directory.is_absolute() or place.startswith(".") or place.count("/") > 1:
            raise UserError(f"--external: there is no {place}")
        return HUB
    from impact.compressible import check_checkpoint

    with one_line_errors(place):
        check_checkpoint(directory, compressible)
    weights = sorted(directory.glob("*.safetensors"))
    described = sorted(path for pattern in _HASHED for path in directory.glob(pattern))
    parts = [f"{path.name} {checksum(path)}" for path in [*described, *weights]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
