"""The report in a real browser: on a phone nothing but its boxes scrolls sideways, and it prints in landscape."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from results.page.page import PAGE, build_page, write_page
from results.tables.accuracy import accuracy_document

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
PHONE, DESKTOP = 360, 1280
# what a page's own script could see, from outside of it: the page allows none
WRAPPER = """<iframe style="width: {width}px; height: 800px; border: 0" src="{page}"></iframe><script>
window.onload = () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const all = selector => [...page.querySelectorAll(selector)], view = frame.contentWindow;
  const look = element => view.getComputedStyle(element);
  const details = page.querySelector("details"), closed = !details.open;
  const found = {{
    width: root.clientWidth, content: root.scrollWidth,
    scrolling: all(".box").filter(box => box.scrollWidth > box.clientWidth).map(box => look(box).overflowX),
    pictures: [...page.images].map(image => image.naturalWidth),
    numbers: all("td.number").length,
    aligned: all("td.number").filter(cell => look(cell).textAlign == "right").length,
    loaded: view.performance.getEntriesByType("resource").map(entry => entry.name),
  }};
  page.querySelector("#table6 > .box td a").click();
  setTimeout(() => {{
    document.body.textContent = JSON.stringify({{...found, opened: closed && details.open}});
  }}, 500);
}};
</script>"""


@pytest.fixture
def page(table6_cells: Callable[..., list], provenance: dict[str, str], tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    # few cells: what a statement's bootstrap costs grows with them
    cells = [cell for cell in table6_cells(n=60) if cell.method in ("dense", "impact")]
    accuracy_document(cells, 6, ["gsm8k", "math"], provenance).write(folder)
    Image.new("RGB", (1500, 660), "white").save(folder / "figure2a.png")
    targets = {"table6": "table6", "figure2": "table6"}
    write_page(build_page(folder, tmp_path, targets, "--preset tiny"), "./reproduce.sh report", folder / PAGE)
    return folder / PAGE


def browse(profile: Path, *arguments: str) -> str:
    quiet = ("disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run")
    command = [str(BROWSER), "--headless", "--no-sandbox", *(f"--{flag}" for flag in quiet)]
    command += [f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def seen(page: Path, width: int, profile: Path) -> dict[str, Any]:
    wrapper = page.with_name("wrapper.html")
    wrapper.write_text(WRAPPER.format(width=width, page=page.name), encoding="utf-8")
    dump = browse(
        profile, "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=5000", wrapper.as_uri()
    )
    body = re.search(r"<body>(.*)</body>", dump, re.DOTALL)
    assert body is not None, dump[:500]
    return json.loads(html.unescape(body.group(1)))


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_only_boxes_scroll_sideways(width: int, page: Path, tmp_path: Path) -> None:
    found = seen(page, width, tmp_path / "profile")
    assert found["content"] <= found["width"] <= width
    assert set(found["scrolling"]) <= {"auto"}
    assert width > PHONE or found["scrolling"]
    assert found["pictures"] == [1500] and found["loaded"] == []
    assert found["aligned"] == found["numbers"] > 0
    assert found["opened"], "a link from a cell opens the list of its runs"


def test_it_prints_in_landscape(page: Path, tmp_path: Path) -> None:
    browse(tmp_path / "profile", f"--print-to-pdf={tmp_path / 'page.pdf'}", page.as_uri())
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", (tmp_path / "page.pdf").read_bytes())
    assert boxes and all(float(width) > float(height) for width, height in boxes)
