"""A disk that is really full: a sentence, nothing acknowledged lost, and it goes on once there is room.

Tests: engine/journal/sqlite_store.py, engine/journal/faults.py
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journal.crashes import environment

FILL = str(Path(__file__).with_name("fill_script.py"))


@pytest.mark.parametrize("kib", [1_024, 1_500, 2_048])
def test_a_full_disk(tmp_path: Path, kib: int) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs unshare and the right to mount (root)")
    place = tmp_path / "small"
    place.mkdir()
    script = f'mount -t tmpfs -o size={kib}k none "{place}"; exec "{sys.executable}" "{FILL}" "{place}"'
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    full, kept, on = ended.stdout.splitlines()
    assert re.fullmatch(r"full: The disk of \S+journal\.db is full; nothing more is acknowledged\. [^|]*", full)
    match = re.fullmatch(r"kept (\d+) of (\d+)", kept)
    assert match is not None
    assert match[1] == match[2]
    assert int(match[2]) > 20
    assert on == "went on to 20 more"
