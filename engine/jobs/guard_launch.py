"""Beginning a guard: lock, record file put in order, listener, process; all of it blocks and runs in a thread. Floor 4.

* Lock and listener are made here and inherited by the guard: there is no moment in which two guards run, and whoever
  connects after `launch` is heard, however long the guard takes to read its records.
* What is damaged is named by its line and counts as lost; the damaged file is kept beside the new one.
"""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("guard.py")
VERSION = 1  # of frames and records; the guard has the same
BACKLOG = 16
WORDS_BYTES_MAX = 1 << 20  # guard.err, where a guard that breaks leaves its traceback, begins anew beyond it
PASSED_ON = ("LANG", "LC_", "LD_", "PATH", "TMPDIR", "UNDERSTUDY_")  # what a guard gets of our environment
LIMITS = [-1, 5_000, 100 << 20]  # timeout (none), kill delay, output limit of a job whose start record is damaged

_launched: list[int] = []  # guards this process has begun and not yet waited for


class GuardFault(Exception):
    """The guard can not be begun or reached; the sentence says why and what to do."""


def launch(state: str, options: dict[str, int], at_ms: int) -> tuple[int, list[str]] | None:
    """Begin a guard: lock, put the record file in order, listen, spawn; returns its pid and the damage found.

    None when somebody else holds the lock. Raises GuardFault and OSError. The guard inherits lock and listener, so
    whoever connects from now on is heard.
    """
    if not sys.executable:
        raise GuardFault("this Python does not know its own program (sys.executable is empty), so no guard can begin")
    with contextlib.ExitStack() as opened:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, folder)
        if os.fstat(folder).st_uid != os.geteuid():
            raise GuardFault(f"the state directory {state} belongs to another user")
        lock = os.open("guard.lock", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=folder)
        opened.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        faults = put_in_order(folder, boot, at_ms)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("guard.socket", dir_fd=folder)
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(socket_address(folder))
        os.chmod("guard.socket", 0o600, dir_fd=folder)  # until here the kernel refuses everybody, nobody listens
        listener.listen(BACKLOG)
        listener.setblocking(False)  # the guard's end of it, too
        words = os.open("guard.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=folder)
        opened.callback(os.close, words)
        if os.fstat(words).st_size > WORDS_BYTES_MAX:
            os.truncate(words, 0)
        pid = _spawn(state, {**options, "boot": boot, "lock": lock, "listener": listener.fileno()}, words)
        os.truncate(lock, 0)
        os.pwrite(lock, f"{pid}\n".encode(), 0)
        return pid, faults


def _spawn(state: str, options: dict[str, Any], words: int) -> int:
    flags = ["-I", "-S", *(["-X", "utf8"] if sys.flags.utf8_mode else [])]
    child = subprocess.Popen(
        [sys.executable, *flags, str(SCRIPT), state, json.dumps(options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=words,
        pass_fds=(options["lock"], options["listener"]),
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
    )
    child.returncode = 0  # it outlives this object; `_reap` waits for it
    _launched.append(child.pid)
    return child.pid


def put_in_order(folder: int, boot: str, at_ms: int) -> list[str]:
    """Rewrite guard.log without history; returns a sentence for each damaged line.

    Afterwards it holds the endings, and the jobs of this boot that may still run. Jobs of an earlier boot are lost; so
    is the job of a damaged line, as far as its key can be read. A last line without end was never durable.
    """
    ended, begun, faults = _replay(folder, at_ms)
    if faults:
        os.link("guard.log", f"guard.log.damaged-{at_ms}", src_dir_fd=folder, dst_dir_fd=folder)
    content: list[list[Any]] = [["guard", VERSION, boot, os.getpid(), at_ms]]
    for key, records in begun.items():
        known = records.get("start") or records.get("pid") or []
        if known and known[2] == boot:
            records.setdefault("start", ["start", key, boot, at_ms, "", *LIMITS])
            if "damaged" in records and "lease" not in records:
                records.pop("pid", None)  # perhaps that was its lease: then it must not run on without one
            content += (records[verb] for verb in ("start", "pid", "lease") if verb in records)
        else:
            ended[key] = _lost(
                key, at_ms, "the machine was restarted while it ran" if known else "its record is damaged"
            )
    content += (["end", *row] for row in ended.values())
    fresh = os.open("guard.log.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=folder)
    with open(fresh, "wb") as file:
        file.writelines(_line(record) for record in content)
        file.flush()
        os.fsync(file.fileno())
    os.rename("guard.log.new", "guard.log", src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    return faults


def _replay(folder: int, at_ms: int) -> tuple[dict[str, list[Any]], dict[str, dict[str, list[Any]]], list[str]]:
    """Read guard.log: reports of endings by key, records by verb of unfinished jobs by key, damage."""
    ended: dict[str, list[Any]] = {}
    begun: dict[str, dict[str, list[Any]]] = {}
    faults: list[str] = []
    for number, line in enumerate(_lines(folder), 1):
        verb, key, *rest = _record(line)
        if verb == "guard" and key > VERSION:
            raise GuardFault(
                f"guard.log is of version {key}, and this program reads up to {VERSION}; use the newer one"
            )
        if verb == "damaged":
            faults.append(f"line {number} of guard.log is damaged")
            if key in begun:
                begun[key]["damaged"] = [verb]
            elif key and key not in ended:
                ended[key] = _lost(key, at_ms, faults[-1])
        elif verb == "forget":
            for one in key:
                ended.pop(one, None)
        elif verb == "end":
            begun.pop(key, None)
            ended[key] = [key, *rest]
        elif verb != "guard":
            ended.pop(key, None)
            begun.setdefault(key, {})[verb] = [verb, key, *rest]
    return ended, begun, faults


def _lines(folder: int) -> list[bytes]:
    try:
        with open(os.open("guard.log", os.O_RDONLY, dir_fd=folder), "rb") as file:
            return file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _record(line: bytes) -> list[Any]:
    """Read a line: its record when the checksum is right, else "damaged" and the key that seems to stand there."""
    if line[:9] == b"%08x " % zlib.crc32(line[9:]):
        record: list[Any] = json.loads(line[9:])
        return record
    try:
        text = line.decode(errors="replace").split('"', 3)[3]
        return ["damaged", json.JSONDecoder().raw_decode(f'"{text}')[0]]
    except (ValueError, IndexError):
        return ["damaged", ""]


def _line(record: list[Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lost(key: str, at_ms: int, sentence: str) -> list[Any]:
    return [key, "lost", at_ms, 0, 0, "", sentence, 0, 0]


def socket_address(folder: int) -> str:
    """Return the guard's address through a descriptor of its directory: short, however long the directory's name is."""
    return f"/proc/self/fd/{folder}/guard.socket"


def reap() -> None:
    """Wait for the guards of this process that have ended, so that none stays a zombie."""
    for pid in list(_launched):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:  # somebody else waited for it
            ended = pid
        if ended:
            _launched.remove(pid)
