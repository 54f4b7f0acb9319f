"""A figure as PNG and PDF."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from results.atomic import written_whole


def write_figure(figure: Figure, out: Path, stem: str) -> list[Path]:
    """Write ``<stem>.png`` and ``<stem>.pdf`` under ``out``, each whole or not at all, close the figure, and return
    the files."""
    written = []
    for suffix in (".png", ".pdf"):
        path = out / f"{stem}{suffix}"
        # no creation date: the same numbers give the same file
        metadata = {"CreationDate": None} if suffix == ".pdf" else None
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)
        written.append(path)
    plt.close(figure)
    return written
