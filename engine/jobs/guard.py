"""The guard: starts jobs, waits for them and remembers how they ended, also while everybody above is gone. Floor 4.

A script of its own process, started by guard_host.py; it imports nothing of ours. docs/guard.md tells its frames, its
records and the reasons.

* A start record is durable before the process begins, and an ending before it is reported; no record = never started.
* A key is started once, until it is forgotten. What nobody saw end is lost, never failed.
* An ending is reported when nothing of the job's process tree is left, or it says what could not be ended.
* One guard for a directory (a lock), one owner for a guard (the newest), nobody of another user.
* Signals stay handled, never ignored: a job would inherit an ignored one. No descriptor is inheritable.
"""

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost half a megabyte in every guard
    from collections.abc import Iterator
    from typing import Any

VERSION = 1  # of frames and records
LINE_BYTES_MAX = 4 << 20  # one request; a longer one ends the connection
ROWS_PER_FRAME = 500
SEND_S_MAX = 0.2  # for an owner that does not read; then its connection ends, and the next one is told all
PEERS_MAX = 16  # connections; the oldest that is not the owner gives way
RUNNING_MAX, ENDED_MAX = 4_096, 100_000  # jobs at once, and endings nobody forgot; a start beyond it is refused
SPAWNS_PER_TURN = 16  # so that endings and kills do not wait behind a crowd of starts
LOOK_MS_MIN, LOOK_MS_MAX = 20, 200  # between two looks at a job's output
FLOOD_FACTOR = 10  # a job that wrote so many times its limit is killed
SWEEP_MS, PATIENT_SWEEP_MS = 20, 100  # between two rounds through the trees that are to end: under KILL, after TERM
TREE_MS_MAX = 10_000  # how long a tree may resist KILL before its end is reported all the same
RETRY_MS = 200  # after a write that failed
KEY_BYTES = 600  # of the record file for one key, generously; it is rewritten when four times too long
NEVER_MS = 1 << 62
OPTIONS = {"linger_ms": 60_000, "reserve_bytes": 64 << 20, "running_max": RUNNING_MAX, "compact_bytes": 4 << 20}
RECORDED, RUNNING, DYING, ENDED = range(4)
PR_SET_CHILD_SUBREAPER = 36
LOG_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
MARK = b"UNDERSTUDY_KEY="  # a variable that tells whose a process is, where the owner sets it
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
HEARD = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
LOST = "nobody saw how it ended, because its guard was killed"

wall_ms = lambda: time.time_ns() // 1_000_000  # since 1970 UTC
now_ms = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # since boot, suspended time included


def read(path: str) -> bytes:
    """Return a file of /proc; nothing when its process is gone."""
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
        return file.readall()
    return b""


def stat(pid: int) -> tuple[int, int, int, int]:
    """Parent, group, session and time of birth (with the pid it says who it is) of a process; zeros for the dead."""
    fields = read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    if len(fields) < 20 or fields[0] in {b"Z", b"X"}:
        return 0, 0, 0, 0
    return int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])


def send(pid: int, ticks: int, number: int) -> None:
    """Signal the process born at `ticks`, and no other that may have got its pid by now."""
    with contextlib.suppress(OSError):  # ended meanwhile, or of another user: the next round sees what is left
        file = os.pidfd_open(pid)
        try:
            if stat(pid)[3] == ticks:
                signal.pidfd_send_signal(file, number)
        finally:
            os.close(file)


def send_group(group: int, number: int) -> bool:
    """Signal a whole group at once; tell whether anything of it is left, zombies included."""
    try:
        os.killpg(group, number)
    except OSError as error:
        return error.errno != errno.ESRCH  # else it belongs to another user
    return True


def pack(*record: object) -> bytes:
    """Make one line of the record file: checksum, blank, JSON."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Job:
    """An attempt, from its start record to its durable ending."""

    def __init__(self, key: str, boot: str, at_ms: int, folder: str, limits: "tuple[int | None, int, int]") -> None:
        self.key, self.boot, self.at_ms, self.folder, self.limits = key, boot, at_ms, folder, limits
        self.timeout_ms, self.kill_delay_ms, self.output_bytes_max = limits
        self.request: dict[str, Any] = {}  # until it is spawned
        self.phase, self.pid, self.ticks = RECORDED, 0, 0
        self.adopted = False  # begun by an earlier guard, so not our child
        self.gone, self.code, self.gone_ms = False, 0, 0  # the main process has ended: how and when
        self.cause, self.sentence = "exited", ""
        self.kill_now: bool | None = None  # a request to kill it, as recorded
        self.kill_ms, self.give_up_ms, self.told = NEVER_MS, NEVER_MS, False  # KILL from when until when; TERM was sent
        self.deadline_ms, self.look_ms, self.looked_ms = NEVER_MS, 0, 0
        self.cut, self.written = [0, 0], [0, 0]  # bytes cut off, and bytes ever seen, of out and err

    def lines(self) -> "Iterator[bytes]":
        """What the record file must say as long as it has not ended."""
        yield pack("start", self.key, self.boot, self.at_ms, self.folder, self.limits)
        if self.kill_now is not None:
            yield pack("kill", self.key, self.kill_now)
        if self.pid:
            yield pack("pid", self.key, self.boot, self.at_ms, self.pid, self.ticks)


class Peer:
    """One connection; the owner is the newest that said hello."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.input, self.taken, self.taken_told = link, b"", 0, 0

    def say(self, **frame: object) -> None:
        """Send one frame; whoever does not read loses the connection."""
        try:
            self.link.sendall(json.dumps(frame, separators=(",", ":")).encode() + b"\n")
        except OSError:
            with contextlib.suppress(OSError):
                self.link.shutdown(socket.SHUT_RDWR)  # the next select finds its end


class Guard:
    """Everything this process knows, in turns: hear, bury, make durable, spawn, look around, report."""

    def __init__(self, path: str, options: "dict[str, Any]") -> None:
        self.path, self.options, self.boot = path, {**OPTIONS, **options}, options["boot"]
        self.umask = os.umask(0o077)  # ours is strict; jobs get the one we came with
        self.folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.null = os.open(os.devnull, os.O_RDWR)
        self.log, self.log_broken = os.open("guard.log", LOG_FLAGS, 0o600, dir_fd=self.folder), False
        self.log_bytes = os.fstat(self.log).st_size
        self.jobs: dict[str, Job] = {}  # by key: taken on, and the ending not durable yet
        self.ending: dict[str, list[Any]] = {}  # by key: reports of endings that are not durable yet
        self.ended: dict[str, list[Any]] = {}  # by key: reports of durable endings, until they are forgotten
        self.new: list[Job] = []  # to be recorded in this turn
        self.queue: deque[Job] = deque()  # recorded, to be spawned
        self.lines: list[bytes] = []  # other records to be written
        self.rows: list[list[Any]] = []  # reports for the owner
        self.mains: dict[int, Job] = {}  # by pid: our children, until we have reaped them
        self.sessions: dict[int, Job] = {}  # by session, until the whole tree has ended
        self.folders: dict[str, Job] = {}  # by folder, as long
        self.dying: dict[Job, None] = {}
        self.look_ms = self.sweep_ms = NEVER_MS
        self.retry_ms, self.alone_ms, self.leave = 0, now_ms(), False  # without owner since when; told to leave
        self.peers: dict[Peer, None] = {}
        self.owner: Peer | None = None
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Turn until nothing is left to guard and nobody is likely to come back."""
        while not self.over(now_ms()):
            for chosen, _ in self.selector.select(self.patience_s(now_ms())):
                act, argument = chosen.data
                act(argument)
            now = now_ms()
            self.reap(now)
            self.commit(now)
            self.spawn(now)
            if now >= self.look_ms:
                self.look(now)
            if now >= self.sweep_ms:
                self.sweep(now)
            self.tell(self.rows)
            self.rows = []
        os.unlink("guard.socket", dir_fd=self.folder)

    def over(self, now: int) -> bool:
        """Tell whether to end: no job, nothing that can still be written, the owner left or away too long."""
        if self.owner or self.jobs or (self.ending and os.fstat(self.log).st_nlink):
            return False
        return self.leave or now - self.alone_ms >= self.options["linger_ms"]

    def patience_s(self, now: int) -> float:
        """How long nothing can become due."""
        due = min(self.look_ms, self.sweep_ms, self.retry_ms if self.ending or self.lines else NEVER_MS)
        if not self.owner and not self.jobs:
            due = min(due, self.alone_ms + self.options["linger_ms"])
        return 0 if self.queue else min(max(0, due - now) / 1_000, 3_600)

    def commit(self, now: int) -> None:
        """Make starts and endings durable, all at hand with one fdatasync; then starts may begin, endings be told."""
        self.new = [job for job in self.new if job.phase == RECORDED]
        if self.new and (free := self.free_bytes()) < self.options["reserve_bytes"]:
            self.turn_away(f"only {free >> 20} MiB are free on the disk of the state directory")
        if not (self.new or ((self.lines or self.ending) and now >= self.retry_ms)):
            return
        starts = (line for job in self.new for line in job.lines())
        ends = (pack("end", *row) for row in self.ending.values())
        sentence, self.lines = self.write(b"".join((*self.lines, *starts, *ends))), []
        if sentence:
            self.retry_ms = now + RETRY_MS
            return self.turn_away(sentence)
        self.rows += [row for key, row in self.ending.items() if self.jobs.pop(key, None)]  # others were told before
        self.ended |= self.ending
        self.queue += self.new
        self.new, self.ending = [], {}
        if self.log_bytes > max(self.options["compact_bytes"], 4 * KEY_BYTES * (len(self.jobs) + len(self.ended))):
            self.write(b"".join(self.image()), anew=True)

    def turn_away(self, sentence: str) -> None:
        """Refuse what could not be recorded: told at once, since nothing began, and recorded when that is possible."""
        for job in self.new:
            self.end(job, "refused", sentence)
            self.rows.append(self.ending[self.jobs.pop(job.key).key])
        self.new = []

    def image(self) -> "Iterator[bytes]":
        """The record file as it would be without history."""
        yield pack("guard", VERSION, self.boot, os.getpid(), wall_ms())
        yield from (line for job in self.jobs.values() if job.phase != ENDED for line in job.lines())
        yield from (pack("end", *row) for row in (*self.ended.values(), *self.ending.values()))

    def write(self, content: bytes, *, durable: bool = True, anew: bool = False) -> str:
        """Write to the record file, or all that counts to a new one; the answer is empty, or says why it failed."""
        if self.log_broken and not anew:
            return self.write(b"".join(self.image()), anew=True)
        file = self.log
        try:
            if anew:
                file = os.open("guard.log.new", LOG_FLAGS | os.O_TRUNC, 0o600, dir_fd=self.folder)
            elif os.fstat(file).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "it was removed")
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fdatasync(file)
            if anew:
                os.rename("guard.log.new", "guard.log", src_dir_fd=self.folder, dst_dir_fd=self.folder)
                file, self.log, self.log_bytes, anew = self.log, file, 0, False
                os.fsync(self.folder)
        except OSError as error:  # half a line may stand there, and a second fdatasync would succeed without the bytes
            self.log_broken = self.log_broken or not anew
            return f"the guard's record file cannot be written: {error.strerror}"
        finally:
            if file != self.log:
                os.close(file)
        self.log_bytes, self.log_broken = self.log_bytes + len(content), False
        return ""

    def free_bytes(self) -> int:
        """What an ordinary user may still write to the disk of the state directory."""
        disk = os.fstatvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def start(self, request: "dict[str, Any]") -> None:
        """Take on a job, or repeat what is known of its key."""
        key, folder = str(request["key"]), str(request["folder"])
        if key in self.jobs:
            return self.rows.extend(self.begun(self.jobs[key]))
        if known := self.ended.get(key) or self.ending.get(key):
            return self.rows.append(known)
        limits = (request["timeout_ms"], int(request["kill_delay_ms"]), int(request["output_bytes_max"]))
        job = self.jobs[key] = Job(key, self.boot, wall_ms(), folder, limits)
        job.request = request
        if len(self.jobs) > self.options["running_max"] or len(self.ended) > ENDED_MAX:
            return self.end(job, "refused", f"{len(self.jobs) - 1} others run, {len(self.ended)} are not forgotten yet")
        if self.folders.setdefault(folder, job) is not job:
            return self.end(job, "refused", f"another job is running in the folder {folder!r}")
        return self.new.append(job)

    def begun(self, *jobs: Job) -> "list[list[Any]]":
        """Reports of those that run."""
        return [[job.key, "started", job.at_ms, job.pid, 0, "", "", 0, 0] for job in jobs if job.pid]

    def end(self, job: Job, kind: str, sentence: str) -> None:
        """Put down an ending, nothing being left of the job; the next commit makes it durable and tells it."""
        sizes, cause = self.measure(job), job.cause if kind == "ended" else ""
        job.phase, at_ms = ENDED, job.gone_ms or wall_ms()
        self.ending[job.key] = [job.key, kind, at_ms, job.pid, job.code, cause, sentence, *sizes]
        self.dying.pop(job, None)
        if self.folders.get(job.folder) is job:
            del self.folders[job.folder]
        if self.sessions.get(job.pid) is job:
            del self.sessions[job.pid]

    def spawn(self, now: int) -> None:
        """Begin what is recorded, a few at a time. Without preexec_fn subprocess uses vfork."""
        for _ in range(min(len(self.queue), SPAWNS_PER_TURN)):
            job = self.queue.popleft()
            if job.phase != RECORDED:  # killed before it began
                continue
            request, folder, files = job.request, f"{self.path}/{job.folder}", list[int]()
            try:
                os.makedirs(folder, exist_ok=True)
                argv, path = request["argv"], f"{folder}/script"
                if request["script"] is not None:  # is it the program, or does the program read it
                    files.append(os.open(path, FILE_FLAGS | os.O_TRUNC, 0o700 if argv[0] == path else 0o600))
                    with open(files.pop(), "w", errors="surrogateescape") as script:
                        script.write(request["script"])
                files += (os.open(f"{folder}/{name}", FILE_FLAGS | os.O_APPEND, 0o600) for name in ("out", "err"))
                streams = {"stdin": self.null, "stdout": files[0], "stderr": files[1], "umask": self.umask}
                directory, environment = request["directory"], request["environment"]
                child = subprocess.Popen(argv, cwd=directory, env=environment, start_new_session=True, **streams)
            except (OSError, subprocess.SubprocessError, *MALFORMED) as error:
                self.end(job, "refused", f"it could not be started: {error}")
                continue
            finally:
                for file in files:
                    os.close(file)
            child.returncode = 0  # we reap it ourselves, so its destructor has nothing to complain of
            job.pid, job.at_ms, job.ticks, job.request = child.pid, wall_ms(), stat(child.pid)[3], {}
            self.write([*job.lines()][-1], durable=False)
            self.mains[job.pid] = job
            self.watch(job, now)
            self.rows += self.begun(job)

    def watch(self, job: Job, now: int) -> None:
        """Keep an eye on a running job."""
        job.phase, job.looked_ms, job.look_ms = RUNNING, now, now + LOOK_MS_MIN
        if job.timeout_ms is not None:
            job.deadline_ms = (job.ticks + 1) * 1_000 // os.sysconf("SC_CLK_TCK") + job.timeout_ms
        self.look_ms = min(self.look_ms, job.look_ms, job.deadline_ms)
        self.sessions[job.pid] = job

    def reap(self, now: int) -> None:
        """Bury the dead and end their attempts, or kill what they left behind."""
        touched = [job for job in self.dying if job.gone and not job.adopted]
        buried = False
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                job, buried = self.mains.pop(found.si_pid, None), True
                if job and job.phase == RUNNING:  # the dead leader still has the number, so its group is no stranger's
                    send_group(job.pid, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(found.si_pid, 0)[1])
                if job:
                    job.gone, job.code, job.gone_ms = True, code, wall_ms()
                    touched.append(job)
        if not buried:
            return
        strays = {pid: (born, self.claim(pid)) for pid in self.orphans() if (born := stat(pid)[3])}
        keepers = {owner for _, owner in strays.values()}
        for job in touched:
            if job in keepers or send_group(job.pid, 0):
                self.kill(job, now, 0)
            else:
                self.end(job, "ended", job.sentence)
        for pid, (born, owner) in strays.items():
            if not owner and all(born < job.ticks for job in self.sessions.values()):
                os.kill(pid, signal.SIGKILL)  # nobody's who is still running

    def orphans(self) -> list[int]:
        """Our children but the jobs' main processes: they come from a job, and their parent has ended."""
        children = read(f"/proc/self/task/{os.getpid()}/children").split()
        return [pid for pid in map(int, children) if pid not in self.mains]

    def claim(self, pid: int) -> Job | None:
        """Find the job of an orphan: by its session, its output, its directory, its environment."""
        if job := self.sessions.get(stat(pid)[2]):
            return job
        for name in ("fd/1", "fd/2", "cwd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/{name}")
                folder = target if name == "cwd" else os.path.dirname(target)
                if job := self.folders.get(folder.removeprefix(self.path + "/")):
                    return job
        marks = [one[len(MARK) :] for one in read(f"/proc/{pid}/environ").split(b"\0") if one.startswith(MARK)]
        return self.jobs.get(os.fsdecode(marks[0])) if marks else None

    def kill(self, job: Job, now: int, delay_ms: int, cause: str = "", sentence: str = "") -> None:
        """Let a tree end: TERM at once and KILL after the delay, or KILL at once when there is none."""
        if job.phase == RECORDED:
            job.code, job.cause = -signal.SIGTERM, cause
            return self.end(job, "ended", "it was killed before it began")
        if job.phase == RUNNING:
            job.phase, job.cause, job.sentence = DYING, cause or job.cause, sentence
        job.kill_ms = min(job.kill_ms, now + delay_ms)
        self.dying[job] = None
        self.sweep_ms = now
        return None

    def sweep(self, now: int) -> None:
        """Go once through the trees that are to end."""
        trees, self.sweep_ms = self.trees(), NEVER_MS
        for job in list(self.dying):
            tree, final = trees.get(job, []), now >= job.kill_ms
            if job.gone and (not tree or now >= job.give_up_ms):
                left = f"some of its processes could not be ended: {[pid for pid, *_ in tree[:9]]}" if tree else ""
                kind, sentence = ("lost", LOST) if job.adopted else ("ended", job.sentence)
                self.end(job, kind, left or sentence)
                continue
            if final or not job.told:
                number = signal.SIGKILL if final else signal.SIGTERM
                grouped = not job.gone and not job.adopted and send_group(job.pid, number)
                for pid, group, ticks in tree:
                    if not grouped or group != job.pid:
                        send(pid, ticks, number)
                job.told, job.give_up_ms = True, min(job.give_up_ms, now + TREE_MS_MAX if final else NEVER_MS)
            pace_ms = SWEEP_MS if final and now < job.give_up_ms else PATIENT_SWEEP_MS
            self.sweep_ms = min(self.sweep_ms, now + pace_ms, NEVER_MS if final else job.kill_ms)

    def trees(self) -> "dict[Job | None, list[tuple[int, int, int]]]":
        """Give every process to a job, elders first: by its session, else by its parent, else as an orphan."""
        table = {int(name): stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        orphans = set(table) if any(job.adopted for job in self.dying) else set(self.orphans())
        owners: dict[int, Job | None] = {}
        trees: dict[Job | None, list[tuple[int, int, int]]] = {}
        for pid, (parent, group, session, ticks) in sorted(table.items(), key=lambda one: (one[1][3], one[0])):
            job = self.sessions.get(session) if ticks and session else None
            if job and session in table and table[session][3] not in {0, job.ticks}:
                job = None  # its number has gone to a younger session
            job = owners[pid] = job or owners.get(parent) or (self.claim(pid) if pid in orphans else None)
            if ticks:
                trees.setdefault(job, []).append((pid, group, ticks))
        return trees

    def look(self, now: int) -> None:
        """Look at output, deadlines and the disk wherever a limit could be reached by now."""
        scarce, self.look_ms = self.free_bytes() < self.options["reserve_bytes"], NEVER_MS
        for job in [one for one in self.sessions.values() if not one.gone]:
            if now >= job.deadline_ms:
                job.deadline_ms = NEVER_MS
                self.kill(job, now, job.kill_delay_ms, "timed_out", f"it ran longer than {job.timeout_ms} ms")
            if now >= job.look_ms:
                before, _ = sum(job.written), self.measure(job)
                grown, most, limit = sum(job.written) - before, max(job.written), job.output_bytes_max
                if most >= FLOOD_FACTOR * limit:
                    self.kill(job, now, 0, "output", f"it wrote {most} bytes, the limit being {limit}")
                elif grown and scarce:
                    self.kill(job, now, 0, "disk", "it was writing while the state directory's disk was nearly full")
                room = (limit if most <= limit else FLOOD_FACTOR * limit) - most
                wait_ms = room * (now - job.looked_ms) // (2 * grown) if grown else LOOK_MS_MAX
                job.looked_ms, job.look_ms = now, now + min(max(wait_ms, LOOK_MS_MIN), LOOK_MS_MAX)
                if job.adopted and stat(job.pid)[3] != job.ticks:
                    job.gone, job.gone_ms = True, wall_ms()
                    self.kill(job, now, 0)
            self.look_ms = min(self.look_ms, max(job.look_ms, now + LOOK_MS_MIN), job.deadline_ms)

    def measure(self, job: Job) -> list[int]:
        """Read the sizes of out and err, cut to the limit where they are longer."""
        sizes, mark = [0, 0], f"\n[cut here: more than {job.output_bytes_max} bytes]\n".encode()
        for place, name in enumerate(("out", "err") if job.pid else ()):
            marked = len(mark) if job.cut[place] else 0
            with contextlib.suppress(OSError):  # the job removed it, or there is no place for the mark
                sizes[place] = os.lstat(path := f"{self.path}/{job.folder}/{name}").st_size
                if sizes[place] > job.output_bytes_max + marked:
                    job.cut[place] += sizes[place] - job.output_bytes_max - marked
                    with open(os.open(path, FILE_FLAGS | os.O_APPEND), "wb", buffering=0) as file:
                        file.truncate(job.output_bytes_max)
                        sizes[place], marked = job.output_bytes_max + (file.write(mark) or 0), len(mark)
            job.written[place] = sizes[place] - marked + job.cut[place]
        return sizes

    def recover(self) -> None:
        """Read what earlier guards recorded, as guard_host.py has put it in order, and watch over what still runs."""
        with open(os.dup(self.log), "rb") as lines:
            for verb, key, *rest in (json.loads(line[9:]) for line in lines):
                if verb == "end":
                    self.ended[key] = [key, *rest]
                elif verb == "start":
                    self.jobs[key] = Job(key, *rest)
                elif verb == "kill":
                    self.jobs[key].kill_now = rest[0]
                elif verb == "pid":
                    _, self.jobs[key].at_ms, self.jobs[key].pid, self.jobs[key].ticks = rest
        for job in self.jobs.values():
            self.adopt(job, now_ms())

    def adopt(self, job: Job, now: int) -> None:
        """Watch over a job of an earlier guard as long as it runs; how it ends we shall not see."""
        job.adopted, self.folders[job.folder] = True, job
        for pid in [job.pid] if job.pid else map(int, filter(str.isdigit, os.listdir("/proc"))):
            _, _, session, ticks = stat(pid)
            if ticks and (ticks == job.ticks or (not job.pid and session == pid and self.claim(pid) is job)):
                job.pid, job.ticks = pid, ticks
                break
        else:
            job.gone, job.gone_ms = True, wall_ms()
        self.watch(job, now)
        if job.gone or job.kill_now is not None:
            self.kill(job, now, 0 if job.gone or job.kill_now else job.kill_delay_ms, "killed")

    def accept(self, listener: socket.socket) -> None:
        """Let somebody of our user in."""
        link, _ = listener.accept()
        uid = int.from_bytes(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if uid != os.geteuid():
            return link.close()
        link.settimeout(SEND_S_MAX)
        self.peers[peer := Peer(link)] = None
        self.selector.register(link, selectors.EVENT_READ, (self.hear, peer))
        if len(self.peers) > PEERS_MAX:
            self.drop(next(one for one in self.peers if one is not self.owner))
        return None

    def drop(self, peer: Peer) -> None:
        """End a connection."""
        del self.peers[peer]
        self.selector.unregister(peer.link)
        peer.link.close()
        if peer is self.owner:
            self.owner, self.alone_ms = None, now_ms()

    def hear(self, peer: Peer) -> None:
        """Read what is there and do it, line by line."""
        if peer not in self.peers:  # dropped in this very turn
            return
        try:
            chunk = peer.link.recv(1 << 20)
        except OSError:
            chunk = b""
        *lines, peer.input = (peer.input + chunk).split(b"\n")
        for line in lines:
            try:
                verb, *arguments = json.loads(line)
                self.obey(peer, verb, *arguments)
            except MALFORMED as error:
                peer.say(fault=f"this is no request: {line[:99]!r}: {error}")
        if not chunk or len(peer.input) > LINE_BYTES_MAX:
            self.drop(peer)

    def obey(self, peer: Peer, verb: str, argument: "Any", now: bool = False) -> None:
        """Do one request."""
        if verb == "hello":
            return self.welcome(peer, argument)
        if peer is not self.owner:
            raise ValueError("not the owner")
        peer.taken += 1
        if verb == "start":
            self.start(argument)
        elif verb == "forget":
            self.lines.append(pack("forget", [key for key in argument if self.ended.pop(key, None)]))
        elif verb == "close":
            self.leave = True
            peer.say(closed=len(self.jobs))
        elif (job := self.jobs.get(argument)) and job.phase != ENDED and not job.gone:
            job.kill_now = now
            self.lines.append(pack("kill", job.key, now))
            self.kill(job, now_ms(), 0 if now else job.kill_delay_ms, "killed")
        return None

    def welcome(self, peer: Peer, version: int) -> None:
        """Make a peer the owner, in the place of the one before, and tell it all that is not forgotten."""
        if version != VERSION:
            return peer.say(bye=f"this guard speaks version {VERSION}, not {version}")
        if self.owner:
            self.owner.say(bye="somebody else took over this guard")
            self.drop(self.owner)
        self.owner, self.leave = peer, False
        self.tell([*self.ended.values(), *self.begun(*self.jobs.values())])
        return peer.say(ready=os.getpid())

    def tell(self, rows: "list[list[Any]]") -> None:
        """Send reports to the owner, and how many of its requests were taken."""
        while (peer := self.owner) and (rows or peer.taken > peer.taken_told):
            peer.say(reports=rows[:ROWS_PER_FRAME], taken=peer.taken)
            peer.taken_told, rows = peer.taken, rows[ROWS_PER_FRAME:]

    def listen(self, listener: socket.socket) -> None:
        """Wait for peers and for signals; TERM lets a guard without owner end as soon as no job is left."""
        wake, bell = socket.socketpair()
        for link in (wake, bell, listener):
            link.setblocking(False)
        signal.set_wakeup_fd(bell.detach(), warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, self.on_signal)
        self.selector.register(wake, selectors.EVENT_READ, (wake.recv, 4_096))
        self.selector.register(listener, selectors.EVENT_READ, (self.accept, listener))

    def on_signal(self, number: int, _frame: object) -> None:
        """Do nothing but end the select."""
        self.leave = self.leave or number == signal.SIGTERM


def main() -> None:
    """Guard the directory of the first argument; the second holds options, with the descriptors we were born with."""
    options = json.loads(sys.argv[2])
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - without it orphans of jobs go to init, and fewer of them are found

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (options["lock"], options["listener"]):
        os.set_inheritable(number, False)
    guard = Guard(sys.argv[1], options)
    guard.listen(socket.socket(fileno=options["listener"]))
    guard.recover()
    guard.run()


if __name__ == "__main__":
    main()
