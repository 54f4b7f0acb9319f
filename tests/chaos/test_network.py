"""No network at all: a network namespace of the run's own, from an empty store."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chaos
LOOPBACK_UP = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture(scope="module")
def unshared() -> list[str]:
    """A command that runs another without a network."""
    for order in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        try:
            if not subprocess.run([*order, *LOOPBACK_UP, "true"], check=False, capture_output=True).returncode:
                return order
        except FileNotFoundError:
            break
    pytest.skip("a network namespace (unshare, ip) isn't to be had here")


def test_nothing_needs_a_network(
    unshared: list[str], undisturbed: Any, tmp_path: Path, account: Callable[..., None]
) -> None:
    """The processes of a training on one machine talk through the loopback interface: without it, one clear line."""
    place = type(undisturbed)(tmp_path)
    ended = place.run(around=[*unshared, *LOOPBACK_UP])
    assert ended.code == 0 and place.csv == undisturbed.csv and not place.wrong(), ended
    account("network", "none, from an empty store", f"{len(place.outputs())} outputs made, table equal")

    place.remove(key for key in place.outputs() if key.startswith("finetune/"))
    ended = place.run(around=unshared)
    assert "loopback" in ended.line and ended.seconds < 60
    account("network", "no loopback interface either", ended.line)
    ended = place.run()
    assert ended.code == 0 and place.csv == undisturbed.csv and not place.wrong(), ended
