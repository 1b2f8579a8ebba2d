import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.journal import lock as module
from engine.journal.lock import Holder, boot_id, file_system_in, file_system_of, holder_of, lock_directory
from engine.ports import StoreFault

HOLD = """
import sys
from engine.journal.lock import lock_directory
held = lock_directory(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /srv rw - tmpfs tmpfs rw
31 30 0:31 / /srv/with\040space rw - nfs4 server:/x rw
32 30 0:32 / /srv/hidden rw - ext4 /dev/vdb rw
33 30 0:33 / /srv/hidden rw - fuse.sshfs me@there rw
34 22 0:34 / /srv2 rw master:7 propagate_from:2 - cifs //server/share rw
"""


def start_holder(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_directory_is_made_and_held_and_let_go(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    assert holder_of(str(state)) is None
    with lock_directory(str(state)):
        assert state.stat().st_mode & 0o777 == 0o700
        assert holder_of(str(state)) == Holder(os.getpid(), boot_id())
        with pytest.raises(StoreFault, match=f"in use by this very process \\(pid {os.getpid()}\\)"):
            lock_directory(str(state))
    assert holder_of(str(state)) is None
    lock = lock_directory(str(state))
    lock.release()
    lock.release()


def test_another_process_is_named_by_its_pid(tmp_path: Path) -> None:
    process = start_holder(tmp_path)
    try:
        with pytest.raises(StoreFault, match=rf"in use by the process with pid {process.pid}; stop it first"):
            lock_directory(str(tmp_path))
        assert holder_of(str(tmp_path)) == Holder(process.pid, boot_id())
    finally:
        end(process)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = start_holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "lock").read_text() != ""  # its note is still there and means nothing
    lock_directory(str(tmp_path)).release()


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = lock_directory(str(tmp_path))
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True, close_fds=False)
    lock.release()
    lock_directory(str(tmp_path)).release()
    end(child)


def test_a_note_of_another_boot_names_no_pid(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"pid": 1, "boot": "of yesterday"}')
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreFault, match="in use by another process;"):
            lock_directory(str(tmp_path))
        path.write_text("\x00 garbage")
        with pytest.raises(StoreFault, match="in use by another process;"):
            lock_directory(str(tmp_path))
    finally:
        os.close(descriptor)


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreFault, match="file is not a directory"):
        lock_directory(str(tmp_path / "file"))
    with pytest.raises(StoreFault, match="not a directory"):
        lock_directory(str(tmp_path / "file" / "below"))
    with pytest.raises(StoreFault, match="does not exist"):
        lock_directory(str(tmp_path / "absent"), create=False)
    (tmp_path / "loose").symlink_to(tmp_path / "absent")
    with pytest.raises(StoreFault, match="does not exist"):
        lock_directory(str(tmp_path / "loose"))


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFault, match="symbolic link"):
        lock_directory(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="for root, permission bits make nothing read-only")
def test_a_directory_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreFault, match="may not be written"):
        lock_directory(str(tmp_path))
    tmp_path.chmod(0o700)


def in_own_namespace(script: str) -> str:
    """Run a shell script with mounts of its own, or skip."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs unshare and the right to mount (root)")
    return subprocess.run(["unshare", "-m", "sh", "-ec", script], capture_output=True, text=True, check=True).stdout


TRY = r"""import sys
from engine.journal.lock import lock_directory
try:
    lock_directory(sys.argv[1])
except Exception as error:
    print(error)
"""


def test_a_read_only_file_system(tmp_path: Path) -> None:
    said = in_own_namespace(f'mount -t tmpfs -o ro none {tmp_path}; {sys.executable} -c "{TRY}" {tmp_path}')
    assert "lies on a read-only file system" in said


def test_the_file_system_of_a_real_mount(tmp_path: Path) -> None:
    script = "import sys; from engine.journal.lock import file_system_of; print(file_system_of(sys.argv[1]))"
    place = tmp_path / "with space"
    place.mkdir()
    said = in_own_namespace(
        f'mount -t tmpfs none "{place}"; mkdir "{place}/below"; {sys.executable} -c "{script}" "{place}/below"'
    )
    assert said == "tmpfs\n"


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/", "ext4"),
        ("/opt/state", "ext4"),
        ("/srv", "tmpfs"),
        ("/srv/state", "tmpfs"),
        ("/srv/with space/state", "nfs4"),
        ("/srv/hidden/deep/state", "fuse.sshfs"),
        ("/srv2/state", "cifs"),
        ("/srv23", "ext4"),
    ],
)
def test_the_longest_and_last_mount_point_wins(path: str, kind: str) -> None:
    assert file_system_in(MOUNTS, path) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"):
        monkeypatch.setattr(module, "file_system_of", lambda _, kind=kind: kind)
        with pytest.raises(StoreFault, match=rf"network file system \({kind}\)"):
            lock_directory(str(tmp_path))
    assert not (tmp_path / "lock").exists()
    monkeypatch.undo()
    assert file_system_of(str(tmp_path))
