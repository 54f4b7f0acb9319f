"""What was published last, so that a call that has nothing left to measure answers without importing what draws."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from experiments.jobs.store import PROVENANCE, Store, checksum
from experiments.tables.target import Plan
from results.files import read_bounded, seal, unseal, written_whole

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = (
    *("experiments/**/*.py", "experiments/**/*.toml", "evals/benchmarks/*.py"),
    *("plots/**/*.py", "results/**/*.py", "results/paper/*.csv"),
)


class Published:
    """The record of one target's last publication: what it was made from, its files, and what the terminal showed.

    The plan's jobs are finished.
    """

    def __init__(self, store: Store, plan: Plan, name: str, out: Path, shown_as: str) -> None:
        self.path = store.root / "published" / f"{name}-{hashlib.sha256(bytes(out.resolve())).hexdigest()[:8]}.json"
        consulted = [job for job in plan.consulted if store.finished(job)]
        made = [(job.key, job.label, checksum(store.directory(job) / PROVENANCE)) for job in (*plan.jobs, *consulted)]
        sources = [checksum(path) for pattern in _SOURCES for path in sorted(ROOT.glob(pattern))]
        parts = [*map(str, made), *sources, str(sorted(plan.wanted)), str(out.resolve()), shown_as]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def found(self) -> tuple[str, list[list[Path]]] | None:
        """What the terminal showed, and the files of each table, if publishing again would make the same; else None."""
        try:
            record = unseal(read_bounded(self.path))
        except (OSError, ValueError):  # never published, or damaged: it is only a shortcut
            return None
        if record.get("fingerprint") != self.fingerprint:
            return None
        files = [[(Path(name), digest) for name, digest in made.items()] for made in record["files"]]
        if any(not path.exists() or checksum(path) != digest for made in files for path, digest in made):
            return None
        return record["text"], [[path for path, _ in made] for made in files]

    def remember(self, text: str, files: Sequence[Sequence[Path]]) -> None:
        """Remembers a publication."""
        digests = [{str(path.resolve()): checksum(path) for path in made} for made in files]
        with written_whole(self.path) as temporary:
            temporary.write_text(seal({"fingerprint": self.fingerprint, "files": digests, "text": text}))
