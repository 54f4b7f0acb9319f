"""Finished outputs, what was published of them and the store's own files, cut short, overwritten or with a bit flipped.

Which of several outputs is hit, and where, is drawn with a fixed seed.
"""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chaos
Damage = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def zero(content: bytes, draw: random.Random) -> bytes:
    """What a file system may leave of a file after a power cut."""
    return bytes(len(content))


def other_fields(content: bytes, draw: random.Random) -> bytes:
    return b'{"files": 3}'


def change_a_digit(content: bytes, draw: random.Random) -> bytes:
    """The text stays well-formed, and a measured number becomes another."""
    measured = content[content.index(b'"measured"') :]
    at = content.index(measured) + draw.choice([i for i in range(len(measured)) if measured[i] in b"23456789"])
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


LOOKED_AT: list[tuple[str, Damage]] = [
    ("compress/*/model.safetensors", cut),
    ("prepare/*/components.safetensors", cut),
    ("evaluate/*/generations.jsonl", cut),
    ("judge/*/run.json", change_a_digit),
    ("perplexity/*/run.json", change_a_digit),
    ("judge/*/run.json", flip),
    ("evaluate/*/run.json", cut),
    ("sft/*/run.json", zero),
    ("compress/*/run.json", other_fields),
]
READ: list[tuple[str, Damage]] = [
    ("finetune/*/model.safetensors", flip),
    ("sft/*/model.safetensors", flip),
    ("data/*/train.jsonl", flip),
    ("profile/*/*.safetensors", flip),
    ("evaluate/*/generations.jsonl", flip),
]
PUBLISHED: list[tuple[str, Damage]] = [
    ("results/table6.csv", flip),
    ("results/table6.json", cut),
    ("results/figure2?.p*", flip),
    ("store/published/*.json", cut),
    ("store/published/*.json", flip),
]


class Damaged:
    """A file that was damaged, of an output (stage/id) or a published one."""

    def __init__(self, candidates: Iterable[Path], how: Damage, draw: random.Random) -> None:
        self.path, self.how = draw.choice(sorted(candidates)), how.__name__.replace("_", " ")
        self.good = self.path.read_bytes()
        self.output = "/".join(self.path.parts[-3:-1])
        self.path.write_bytes(how(self.good, draw))

    def mended(self) -> bool:
        """A record has times in it: it is never the same again, and its checksum was looked at."""
        return self.path.name == "run.json" or self.path.read_bytes() == self.good


def test_what_every_call_looks_at_is_noticed_and_made_again_at_once(
    place: Any, undisturbed: Any, account: Callable[..., None]
) -> None:
    """Sizes of files, and the records that numbers are read from."""
    draw = random.Random(1)
    labels = {key: described(place, key) for key in place.outputs()}
    hit: list[Damaged] = []
    for files, how in LOOKED_AT:
        used = {each.output for each in hit}
        candidates = [path for path in place.store.glob(files) if "/".join(path.parts[-3:-1]) not in used]
        hit.append(Damaged(candidates, how, draw))
    place.remove(())
    ended = place.run()
    assert ended.code == 0 and not ended.err, ended
    told = {line for line in ended.out.splitlines() if line.startswith("made again: ")}
    names = {each.output: labels[each.output] for each in hit}
    for each in hit:
        (line,) = [line for line in told if line.startswith(f"made again: {names[each.output]} (")]
        account("corruptions", f"{each.how}: {each.path.parts[-3]}/.../{each.path.name}", line)
    assert len(told) == len(hit), "more was made again than was damaged"
    assert all(each.mended() for each in hit) and place.csv == undisturbed.csv and not place.wrong()


def test_what_a_stage_reads_is_noticed_and_the_line_says_what_to_do(
    place: Any, undisturbed: Any, account: Callable[..., None]
) -> None:
    """The size is right, and the content is not: seen when something is to be made from it."""
    draw = random.Random(2)
    labels = {key: described(place, key) for key in place.outputs()}
    hit: list[Damaged] = []
    readers: set[str] = set()
    for files, how in READ:
        hit.append(Damaged([path for path in place.store.glob(files) if unread(path, readers)], how, draw))
        spared = {"finetune", *(each.output for each in hit)}
        of_it = [key for key in place.readers(hit[-1].output) if not spared & {key, key.split("/")[0]}]
        readers.add(draw.choice(of_it))
    place.remove(readers)
    lines = []
    while (ended := place.run()).code:
        assert "damaged" in ended.line and "call the same command again" in ended.line
        lines.append(ended.line)
        assert len(lines) <= len(hit)
    assert lines and all(any(f" {labels[each.output]} " in line for each in hit) for line in lines), lines
    for each in hit:
        line = next((line.split(";")[0] for line in lines if f" {labels[each.output]} " in line), "seen by the way")
        line = line.replace(str(place.folder), "")
        account("corruptions", f"{each.how}: {each.path.parts[-3]}/.../{each.path.name}", line)
    assert all(each.mended() for each in hit) and place.csv == undisturbed.csv and not place.wrong()


def test_what_nobody_reads_again_does_not_matter(place: Any, undisturbed: Any, account: Callable[..., None]) -> None:
    """Completions that are judged: the table does not change, and the damage stays until something reads them."""
    hit = Damaged(place.store.glob("evaluate/*/generations.jsonl"), flip, random.Random(3))
    place.remove(())
    ended = place.run()
    assert ended.code == 0 and place.csv == undisturbed.csv and place.wrong() == [str(hit.path)], ended
    account("corruptions", "flip: evaluate/.../generations.jsonl, judged already", "not looked at, table equal")


@pytest.mark.parametrize(("files", "how"), PUBLISHED, ids=lambda given: getattr(given, "__name__", given))
def test_a_damaged_publication_is_published_again(
    files: str, how: Damage, place: Any, undisturbed: Any, account: Callable[..., None]
) -> None:
    hit = Damaged(place.folder.glob(files), how, random.Random(4))
    before, shown = place.outputs(), place.run()
    assert shown.code == 0 and "Table 6, measured" in shown.out and place.outputs() == before, shown
    assert hit.path.name == "table6.json" or "published" in files or hit.mended()
    json.loads((place.results / "table6.json").read_text())
    assert place.csv == undisturbed.csv and not place.wrong()
    account("corruptions", f"{hit.how}: {files}", "published again from the store")


def test_leftovers_are_swept(place: Any, undisturbed: Any, account: Callable[..., None]) -> None:
    """What kills and broken disks leave around the outputs: nothing of it reaches the next run."""
    place.remove([key for key in place.outputs() if key.startswith("judge/")][:1])
    place.results.mkdir()
    (place.results / ".table6.4194304.tmp.csv").write_text("method,keep_pct\ndense,1")
    left = place.store / "judge" / ".0123456789abcdef.somewhere.4194304"
    left.mkdir()
    (left / "verdicts.jsonl").write_text("{")
    (place.store / "schedule.json").write_text('{"store": ')
    (place.store / "lock").write_bytes(b"\xff\x00process")
    for stamp in place.store.glob("stamps/*/*"):
        stamp.write_bytes(b"\xff" * 9)
    ended = place.run()
    assert ended.code == 0 and place.csv == undisturbed.csv and not place.wrong(), ended
    account("corruptions", "half-written outputs, stamps, schedule, lock", "swept or not looked at, table equal")


def described(place: Any, key: str) -> str:
    """What the program calls an output."""
    record = json.loads((place.store / key / "run.json").read_bytes())
    return f"{record['stage']} {record['label']}"


def unread(path: Path, removed: set[str]) -> bool:
    """Of an output that is not itself to be made anew."""
    return "/".join(path.parts[-3:-1]) not in removed
