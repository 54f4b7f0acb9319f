"""SIGKILL at random moments of every stage, of the scheduler and of the publication."""

import contextlib
import json
import os
import random
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.chaos
KILLS = 20
BETWEEN, PUBLICATION = "between stages", "publication"
ACTS = 60  # a moment that is over before the kill falls is aimed at again


def test_killed_at_any_moment_the_next_call_ends_with_the_same_table(
    place: Any, undisturbed: Any, account: Callable[..., None]
) -> None:
    draw = random.Random(0)
    seconds = longest(undisturbed)
    stages = list(dict.fromkeys(key.split("/")[0] for key in undisturbed.outputs()))
    assert len(stages) == 10, stages
    moments = [*stages, PUBLICATION, PUBLICATION, BETWEEN, BETWEEN]
    moments += draw.choices([*stages, PUBLICATION, BETWEEN], k=KILLS - len(moments))
    draw.shuffle(moments)
    aimed = [(moment, 0) for moment in moments]
    kinds = ["parent alone", "whole group", "stage alone"]
    kills: list[tuple[str, str]] = []
    for _ in range(ACTS):
        if not aimed:
            break
        moment, missed = aimed.pop(0)
        # Each kind in turn, so that none is left to chance; outside the stages there is none to kill alone.
        kind = kinds[len(kills) % len(kinds)]
        if moment in (BETWEEN, PUBLICATION) and kind == "stage alone":
            kind = draw.choice(kinds[:2])
        place.remove(some_of(place, moment, draw))
        begun = place.outputs()
        with place.start() as live:
            wait_for(live, place, moment, seconds.get(moment, 0) * 0.9 / 2**missed, draw)
            running = place.half_written()
            if kind == "stage alone":
                for victim in {pid for stage, pid, _ in running if stage == moment}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
            elif kind == "parent alone":
                os.kill(live.process.pid, signal.SIGKILL)
            else:
                os.killpg(live.process.pid, signal.SIGKILL)
            ended = live.ended()
            orphans = live.orphans()
        assert not orphans, orphans
        if ended.code == 0:  # it had ended before
            assert place.csv == undisturbed.csv
            aimed.append((moment, missed + 1))
            continue
        struck = sorted({stage for stage, _, _ in place.half_written()})
        if kind == "stage alone":
            assert "was killed" in ended.line
        else:
            assert ended.code == -signal.SIGKILL
        if moment in stages and moment not in struck:  # it ended in the very moment
            aimed.append((moment, missed + 1))
        now = place.outputs()
        assert {key: now[key] for key in begun} == begun, "something finished was made again by the killed call"
        ended = place.run()
        assert ended.code == 0, ended
        after = place.outputs()
        assert {key: after[key] for key in now} == now, "something finished was made again after the kill"
        assert place.csv == undisturbed.csv and not place.wrong()
        kills.append((kind, ", ".join(struck) or moment))
        made = f"{len(now)} kept, {len(after) - len(now)} made in {ended.seconds:.0f} s"
        resumed = re.search(r"continues from step \d+", ended.out)
        made += f" ({resumed[0]})" if resumed else ""
        account("kills", f"{len(kills):2}", kind, f"in {kills[-1][1]}", f"next call: {made}, table equal")
    assert not aimed and len(kills) >= KILLS
    assert set(stages) <= {stage for _, struck in kills for stage in struck.split(", ")}
    assert {kind for kind, _ in kills} == set(kinds)


def longest(place: Any) -> dict[str, float]:
    """Stage -> seconds of its longest run."""
    found: dict[str, float] = {}
    for key in place.outputs():
        stage = key.split("/")[0]
        wall = json.loads((place.store / key / "run.json").read_bytes())["wall_s"]
        found[stage] = max(found.get(stage, 0), wall)
    return found


def some_of(place: Any, moment: str, draw: random.Random) -> list[str]:
    """Outputs to forget, so that the moment comes again: up to two of its stage, and now and then another."""
    outputs = list(place.outputs())
    there = [key for key in outputs if key.startswith(f"{moment}/")]
    chosen = draw.sample(there, min(len(there), draw.randint(1, 2)))
    if moment != PUBLICATION:
        cheap = [key for key in outputs if not key.startswith("finetune/")]
        chosen += draw.sample(cheap, draw.randint(1, 2) if moment == BETWEEN else draw.randint(0, 1))
    return list(dict.fromkeys(chosen))


def wait_for(live: Any, place: Any, moment: str, lasts: float, draw: random.Random) -> None:
    """Until a random while into the moment, or the end of the call."""
    if moment == PUBLICATION:
        live.wait_until(place.results.exists)
        live.linger(draw.uniform(0, 2))
    elif moment == BETWEEN:
        # from the first line of the program on, or just after some output is there
        if draw.random() < 0.5:
            live.linger(draw.uniform(0, 6))
        else:
            before = len(place.outputs())
            live.wait_until(lambda: len(place.outputs()) > before)
            live.linger(draw.uniform(0, 0.2))
    else:
        live.wait_until(lambda: [stage for stage, _, _ in place.half_written() if stage == moment])
        live.linger(draw.uniform(0, lasts))
