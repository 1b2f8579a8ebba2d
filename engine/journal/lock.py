"""The state directory: it belongs to one process at a time, and lies where SQLite is safe. Floor 4.

* The lock is `flock` on a file that is never deleted: the kernel lets go of it when its holder dies, however it dies,
  so there is no stale lock to judge. A lock of bare existence would need a guess whether its writer lives.
* What the file says (pid, boot id) is for people; it is never trusted.
* Every refusal is a StoreFault with one sentence.
"""

import errno
import fcntl
import os
import re
import stat
from typing import Self

import msgspec

from engine.journal.faults import disk_fault
from engine.ports import StoreFault

LOCK_NAME = "lock"
LOCK_BYTES_MAX = 4_096
DIRECTORY_MODE = 0o700

# Their locks or their shared memory between processes cannot be relied on, and SQLite's write-ahead log needs both.
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "glusterfs", "lustre", "gpfs"),
        *("beegfs", "orangefs", "pvfs2", "davfs", "ocfs2", "gfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone", "fuse.davfs2"),
        *(
            "fuse.smbnetfs",
            "fuse.mfs",
            "fuse.juicefs",
            "fuse.goofys",
            "fuse.gcsfuse",
            "fuse.blobfuse",
            "fuse.blobfuse2",
        ),
    )
)


class Holder(msgspec.Struct, frozen=True):
    """Who holds a directory, as he wrote it down himself."""

    pid: int
    boot: str


class DirectoryLock:
    """A held state directory; `release` lets go, and so does the end of the process."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; safe to call twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_directory(path: str, *, create: bool = True) -> DirectoryLock:
    """Take a state directory for this process, making it when it is not there; raises StoreFault.

    Refused: in use (the sentence names the pid), not a directory, not writable, on a network file system.
    """
    try:
        _prepare(path, create)
        file_system = file_system_of(path)
        if file_system in NETWORK_FILE_SYSTEMS:
            raise StoreFault(
                f"The state directory {path} lies on a network file system ({file_system}), where a journal can be"
                " damaged; choose a directory on a local disk."
            )
        return _lock(path)
    except OSError as error:
        raise _refusal(path, error) from error


def holder_of(path: str) -> Holder | None:
    """Tell who holds a state directory, None when nobody does; changes nothing. A holder without a note has pid 0."""
    try:
        descriptor = os.open(os.path.join(path, LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # A shared lock, given back at once: whoever starts in this very moment may be told that somebody is there.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _note(descriptor)
    finally:
        os.close(descriptor)
    return None


def boot_id() -> str:
    """Return what tells this run of the operating system from all others, empty where there is nothing such."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def file_system_of(path: str) -> str:
    """Return the type of the file system a path lies on, empty where it cannot be told."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = file.read()
    except OSError:
        return ""
    return file_system_in(mounts, os.path.realpath(path))


def file_system_in(mounts: str, path: str) -> str:
    """Find in the text of mountinfo the type of the mount that an absolute, resolved path lies on.

    The longest mount point wins; of two on the same place the later one, which hides the earlier.
    """
    found, longest = "", -1
    for line in mounts.splitlines():
        fields, separator, rest = line.partition(" - ")
        columns = fields.split(" ")
        if not separator or len(columns) < 5:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), columns[4])
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= longest:
            found, longest = rest.split(" ")[0], len(place)
    return found


def _prepare(path: str, create: bool) -> None:
    if create and not os.path.lexists(path):
        os.makedirs(path, DIRECTORY_MODE)
        _sync_folder(os.path.dirname(os.path.abspath(path)))  # else a power cut could take the directory away again
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _lock(path: str) -> DirectoryLock:
    # Opening for writing is also the test whether the directory may be written: permission bits say little (root,
    # read-only mounts).
    descriptor = os.open(os.path.join(path, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        note = msgspec.json.encode(Holder(os.getpid(), boot_id()))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note + b"\n", 0)
    except BlockingIOError:
        holder = _note(descriptor)
        os.close(descriptor)
        raise StoreFault(_in_use(path, holder)) from None
    except BaseException:
        os.close(descriptor)
        raise
    return DirectoryLock(path, descriptor)


def _note(descriptor: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(descriptor, LOCK_BYTES_MAX, 0), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return Holder(0, "")


def _in_use(path: str, holder: Holder) -> str:
    if holder.pid == os.getpid():
        return f"The state directory {path} is in use by this very process (pid {holder.pid}); give each node its own."
    known = holder.pid and holder.boot == boot_id()
    who = f"by the process with pid {holder.pid}" if known else "by another process"
    return f"The state directory {path} is in use {who}; stop it first, or choose another state directory."


def _refusal(path: str, error: OSError) -> StoreFault:
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreFault(f"The state directory {path} is not a directory; choose another place.")
    if error.errno == errno.ENOENT:
        return StoreFault(f"The state directory {path} does not exist; make it, or choose another one.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreFault(
            f"The state directory {path} may not be written by this user; give the right, or choose another."
        )
    if error.errno == errno.EROFS:
        return StoreFault(
            f"The state directory {path} lies on a read-only file system; choose a place that can be written."
        )
    if error.errno == errno.ELOOP:
        return StoreFault(f"The file {path}/{LOCK_NAME} is a symbolic link; remove it and start again.")
    return disk_fault(path, error)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
