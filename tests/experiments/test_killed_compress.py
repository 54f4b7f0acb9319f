"""compress, killed wherever it touches the disk: no half of a model, and the next call leaves nothing of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
from rich.console import Console
from experiments.commands.compress import compress_model

place, moments = Path(sys.argv[1]), int(sys.argv[2])
touched = 0

def call(last):
    # in a process of its own; ends it when it has touched the folder so many times
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def watch(event, arguments):
        global touched
        if event in ("open", "os.mkdir", "os.rename", "os.rmdir") and "unfinished-" in str(arguments[0]):
            touched += 1
            if touched == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    console = Console(file=open(os.devnull, "w"))
    compress_model(str(place / "model"), place / "out", keep=60, calibration=place / "rows.jsonl", console=console)
    (place / "touched").write_text(str(touched))
    os._exit(0)

def there():
    return sorted(path.name for path in place.iterdir() if "unfinished-" not in path.name)

assert call(-1) == 0
most = int((place / "touched").read_text())
(place / "touched").unlink()
shutil.rmtree(place / "out")
after = []
for number in range(moments):
    after.append([call(1 + number * (most - 1) // (moments - 1)), there()])
    left = sum("unfinished-" in path.name for path in place.iterdir())
    assert left <= 1, left
assert call(-1) == 0
print(json.dumps({"most": most, "after": after, "end": sorted(path.name for path in place.iterdir())}))
"""


def test_nothing_is_left_that_the_next_call_does_not_sweep(brought: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    shutil.copytree(brought, place / "model")
    rows = [{"query": f"{i} {i + 3}", "response": f"{i + 1} {i + 2} {i + 4}"} for i in range(1, 5)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(place), "10"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["most"] > 20
    assert found["after"] == [[9, ["model", "rows.jsonl"]]] * 10
    assert found["end"] == ["model", "out", "rows.jsonl", "touched"]
