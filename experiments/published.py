"""What was published last, so that a call that has nothing left to measure answers without importing what draws."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from experiments.plan import Plan
from experiments.store import PROVENANCE, Store, checksum
from results.atomic import written_whole
from results.sealed import seal, unseal

ROOT = Path(__file__).resolve().parent.parent


class Published:
    """The record of one table's last publication: what it was made from, its files, and what the terminal showed.

    The plan's jobs are finished.
    """

    def __init__(self, store: Store, plan: Plan, out: Path, shown_as: str) -> None:
        self.path = store.root / "published" / f"table{plan.table.number}-{plan.preset.name}.json"
        sources = sorted(path for folder in ("results", "plots") for path in (ROOT / folder).glob("*.py"))
        sources += sorted((ROOT / "results" / "paper").glob("*.csv"))
        made = [(job.key, checksum(store.directory(job) / PROVENANCE)) for job in plan.jobs]
        parts = [*map(str, ((cell.name, cell.seed) for cell in plan.cells)), *map(str, made)]
        parts += [*map(checksum, sources), str(out.resolve()), shown_as]
        parts += [checksum(ROOT / "experiments" / "report.py"), checksum(ROOT / "experiments" / "plan.py")]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.files: list[Path] = []

    def text(self) -> str | None:
        """What the terminal showed, if publishing again would make the same files, then known; None otherwise."""
        try:
            record = unseal(self.path.read_bytes())
        except (FileNotFoundError, ValueError):  # never published, or damaged: it is only a shortcut
            return None
        same = record.get("fingerprint") == self.fingerprint and all(
            Path(name).exists() and checksum(Path(name)) == digest for name, digest in record["files"].items()
        )
        if not same:
            return None
        self.files = [Path(name) for name in record["files"]]
        return record["text"]

    def record(self, text: str, files: Iterable[Path]) -> None:
        """Remembers a publication."""
        digests = {str(path.resolve()): checksum(path) for path in files}
        with written_whole(self.path) as temporary:
            temporary.write_text(seal({"fingerprint": self.fingerprint, "files": digests, "text": text}))
