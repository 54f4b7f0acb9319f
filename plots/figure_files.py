"""A figure as PNG and PDF."""

from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from results.files import written_whole


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


def write_panels(figures: Iterable[Figure], out: Path, stem: str) -> list[Path]:
    """Write several figures as ``<stem>a``, ``<stem>b``, ... and return the files."""
    return [
        path
        for letter, figure in zip(ascii_lowercase, figures, strict=False)
        for path in write_figure(figure, out, f"{stem}{letter}")
    ]
