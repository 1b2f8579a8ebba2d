"""The guard: starts jobs, waits for them and remembers how they ended, also while everybody above is gone. Floor 4.

* A script of its own process, begun by guard_launch.py; docs/guard.md tells its frames, its records and the reasons.
* A start record is durable before the process begins, and an ending before it is reported; no record = never started.
* A key is started once, until it is forgotten. What nobody saw end is lost, never failed.
* An ending is reported when nothing of the job's process tree is left, or it says what could not be ended.
* One guard for a directory (a lock), one owner for a guard (the newest), nobody of another user.
* Signals stay handled, never ignored: a job would inherit an ignored one.
"""

import contextlib
import ctypes
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

VERSION, LINE_BYTES_MAX = 1, 4 << 20  # of frames and records; of one request, a longer one ends the connection
SEND_S_MAX = 0.2  # for an owner that does not read; then its connection ends, and the next one is told all
ENDED_MAX = 100_000  # endings nobody forgot; a start beyond it is refused
ROWS_PER_FRAME, SPAWNS_PER_TURN = 500, 16  # so that endings and kills do not wait behind a crowd of starts
LOOK_MS_MIN, LOOK_MS_MAX, FLOOD_FACTOR = 20, 200, 10  # between looks at output; who wrote so many times his limit dies
SWEEP_MS, TREE_MS_MAX = 20, 10_000  # between two rounds of KILL through a tree; so long it may resist, then it is told
RETRY_MS, NEVER_MS = 200, 1 << 62  # after a write that failed
KEY_BYTES = 600  # of the record file for one key, generously; it is rewritten when four times too long
RECORDED, RUNNING, DYING, ENDED = range(4)
TICKS_PER_S, LOG_FLAGS = os.sysconf("SC_CLK_TCK"), os.O_RDWR | os.O_APPEND | os.O_CREAT
MARK = b"UNDERSTUDY_RESULT="  # a path inside the job's folder, in the environment of every process of a job
HEARD = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

fsencode = functools.lru_cache(1_000)(os.fsencode)  # most of an environment is the same in all jobs
encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # json.dumps would build it each time
wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000  # since 1970 UTC
now_ms: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000  # suspend included


def read(path: str) -> bytes:
    """Return a file of /proc; nothing when its process is gone."""
    with contextlib.suppress(OSError), open(path, "rb", 0) as file:
        return file.readall()
    return b""


def stat(pid: int) -> tuple[int, int, int, int]:
    """Parent, group, session and birth (in ticks since boot) of a process; zeros when it is dead, a zombie too."""
    fields = read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    is_dead = len(fields) < 20 or fields[0] in b"ZX"
    return (0, 0, 0, 0) if is_dead else (int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def send_group(group: int, number: int) -> bool:
    """Signal a whole group at once; tell whether anything of it is left, zombies included."""
    try:
        os.killpg(group, number)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # what is left may belong to another user
    return True


def pack(*record: object) -> bytes:
    """Make one line of the record file: checksum, blank, JSON."""
    text = encode(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Job:
    """An attempt, from its start record to its durable ending."""

    def __init__(self, key: str, boot: str, at_ms: int, folder: str, *limits: int) -> None:
        self.key, self.at_ms, self.folder = key, at_ms, folder
        self.timeout_ms, self.kill_delay_ms, self.output_bytes_max = limits  # no timeout = -1
        self.mark = f"\n[cut here: more than {self.output_bytes_max} bytes]\n".encode()
        self.request, self.started = dict[str, Any](), list[Any]()  # until it is spawned; the report of its start
        self.phase, self.pid, self.since, self.ticks = RECORDED, 0, 0, 0  # it was born between these two ticks
        self.adopted = False  # begun by an earlier guard, so not our child
        self.gone, self.gone_ms, self.code, self.cause, self.sentence = False, 0, 0, "exited", ""  # of its main process
        self.kill_ms, self.give_up_ms, self.told = NEVER_MS, NEVER_MS, False  # KILL from when until when; TERM was sent
        self.deadline_ms, self.look_ms, self.looked_ms = NEVER_MS, 0, 0
        self.cut, self.written = [0, 0], [0, 0]  # bytes cut off, and bytes ever seen, of out and err
        self.lease, self.fence_ms, self.lease_record = tuple[int, ...](), NEVER_MS, b""  # `fence_ms`: TERM goes out
        self.record = pack("start", key, boot, at_ms, folder, *limits)  # to stand in the record file till it ends

    def hold(self, *lease: int) -> bytes:
        """Take a lease (until when, grace, margin), at whose end nothing of the job may live; return its record."""
        self.lease, self.fence_ms, self.lease_record = lease, lease[0] - sum(lease[1:]), pack("lease", self.key, *lease)
        return self.lease_record


class Guard:
    """Everything this process knows, in turns: hear, bury, make durable, spawn, look around, report."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.path, self.options, self.boot = path, options, options["boot"]
        self.habits: dict[str, Any] = {"stdin": os.open(os.devnull, os.O_RDONLY), "umask": os.umask(0o077)}
        self.folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.log = os.open("guard.log", LOG_FLAGS, 0o600, dir_fd=self.folder)
        self.log_broken, self.log_bytes = False, os.fstat(self.log).st_size
        self.jobs: dict[str, Job] = {}  # by key: taken on, and the ending not durable yet
        self.ending: dict[str, list[Any]] = {}  # by key: reports of endings that are not durable yet
        self.ended: dict[str, list[Any]] = {}  # by key: reports of durable endings, until they are forgotten
        self.new, self.queue = list[Job](), list[Job]()  # to be recorded in this turn; recorded, to be spawned
        self.lines, self.rows = list[bytes](), list[list[Any]]()  # other records to be written; reports for the owner
        self.mains, self.sessions = dict[int, Job](), dict[int, Job]()  # by pid, until reaped; until the tree has ended
        self.folders, self.dying = dict[str, Job](), dict[Job, None]()  # by folder, as long; those that are to end
        self.look_ms, self.sweep_ms, self.retry_ms = NEVER_MS, NEVER_MS, 0
        self.owner: socket.socket | None = None
        self.alone_ms, self.leave = now_ms(), False  # since when nobody is the owner; whether the last one closed
        self.input, self.taken = b"", 0  # of this owner: half a request, and how many were acted on and not answered
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Turn until nothing is left to guard and nobody is likely to come back."""
        while True:
            now = now_ms()
            due = min(self.look_ms, self.sweep_ms, self.retry_ms if self.ending or self.lines else now + 3_600_000)
            unwritten = (self.jobs or self.ending) if os.fstat(self.log).st_nlink else None  # then nobody can read it
            if not (self.owner or self.sessions or self.queue or unwritten):
                if self.leave or now - self.alone_ms >= self.options["linger_ms"]:
                    break
                due = min(due, self.alone_ms + self.options["linger_ms"])
            for chosen, _ in self.selector.select(0 if self.queue else max(0, due - now) / 1_000):
                with contextlib.suppress(OSError):
                    chosen.data()
            now, disk = now_ms(), os.fstatvfs(self.folder)
            self.free_bytes = disk.f_bavail * disk.f_frsize
            for step in (self.reap, self.commit, self.spawn, self.look, self.sweep):
                step(now)
            self.tell(self.rows)
            self.rows = []
            if self.owner and not os.fstat(self.folder).st_nlink:  # nothing can be recorded any more, so nothing told
                self.say(removed=True)
                self.drop()
                self.leave = True
        with contextlib.suppress(OSError):
            os.unlink("guard.socket", dir_fd=self.folder)

    def commit(self, now: int) -> None:
        """Make starts and endings durable, all at hand with one fdatasync; then starts may begin, endings be told."""
        self.new, sentence = [job for job in self.new if job.phase == RECORDED], ""
        if self.new and self.free_bytes < self.options["reserve_bytes"]:
            sentence = f"only {self.free_bytes >> 20} MiB are free on the disk of the state directory"
        elif self.new or ((self.lines or self.ending) and now >= self.retry_ms):
            starts = (job.record + job.lease_record for job in self.new)
            ends = (pack("end", *row) for row in self.ending.values())
            sentence, self.lines = self.write(b"".join((*self.lines, *starts, *ends))), []
            if sentence:
                self.retry_ms = now + RETRY_MS
            else:
                self.rows += [row for key, row in self.ending.items() if self.jobs.pop(key, None)]
                self.ended |= self.ending
                self.queue += self.new
                self.new, self.ending = [], {}
        while self.new:  # not recorded, so not begun: told at once, and recorded when that is possible again
            self.end(job := self.new.pop(), "refused", sentence)
            self.rows.append(self.ending[self.jobs.pop(job.key).key])
        needed_bytes = max(self.options["compact_bytes"], 4 * KEY_BYTES * (len(self.jobs) + len(self.ended)))
        if self.log_bytes > needed_bytes and now >= self.retry_ms and self.write(b"".join(self.image()), anew=True):
            self.retry_ms = now + RETRY_MS

    def image(self) -> Iterator[bytes]:
        yield pack("guard", VERSION, self.boot, os.getpid(), wall_ms())
        yield from (job.record + job.lease_record for job in self.jobs.values() if job.phase != ENDED)
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
                raise OSError("it was removed")
            if os.write(file, content) < len(content):
                raise OSError("no space is left")
            if durable:
                os.fdatasync(file)
            if anew:
                os.rename("guard.log.new", "guard.log", src_dir_fd=self.folder, dst_dir_fd=self.folder)
                file, self.log, self.log_bytes, anew = self.log, file, 0, False
                os.fsync(self.folder)
        except OSError as error:  # half a line may stand there, and a second fdatasync would succeed without the bytes
            self.log_broken = self.log_broken or not anew
            return f"the guard's record file can not be written: {error.strerror or error}"
        finally:
            if file != self.log:
                os.ftruncate(file, 0)  # a file that could not be written takes no place
                os.close(file)
        self.log_bytes, self.log_broken = self.log_bytes + len(content), False
        return ""

    def start(self, request: dict[str, Any]) -> None:
        """Take on a job, or repeat what is known of its key."""
        key, numbers = request["key"], (request[name] for name in ("timeout_ms", "kill_delay_ms", "output_bytes_max"))
        known = self.jobs[key].started if key in self.jobs else self.ended.get(key) or self.ending.get(key)
        if known or key in self.jobs:
            return self.rows.extend([known] if known else [])
        if len(self.jobs) >= self.options["running_max"] or len(self.ended) >= ENDED_MAX:
            sentence = f"{len(self.jobs)} others are running and {len(self.ended)} not forgotten, which is the limit"
            return self.rows.append([key, "refused", wall_ms(), 0, 0, "", sentence, 0, 0])
        job = Job(key, self.boot, wall_ms(), request["folder"], *map(int, numbers))
        if request.get("lease_until_ms") is not None:
            job.hold(*(request[f"lease_{name}_ms"] for name in ("until", "grace", "margin")))
        owner, self.jobs[key], job.request = self.folders.setdefault(job.folder, job), job, request
        if owner is not job:
            return self.end(job, "refused", f"another job is running in the folder {job.folder!r}")
        return self.new.append(job)

    def end(self, job: Job, kind: str, sentence: str) -> None:
        """Put down an ending, nothing being left of the job; the next commit makes it durable and tells it."""
        sizes, cause = self.measure(job), job.cause if kind == "ended" else ""
        job.phase, at_ms = ENDED, job.gone_ms or wall_ms()
        self.ending[job.key] = [job.key, kind, at_ms, job.pid, job.code, cause, sentence, *sizes]
        self.dying.pop(job, None)
        if self.folders.get(job.folder) is job:
            del self.folders[job.folder]
        if self.sessions.get(job.pid or -1) is job:
            del self.sessions[job.pid or -1]

    def spawn(self, now: int) -> None:
        """Begin what is recorded, a few at a time. Without preexec_fn subprocess uses vfork."""
        batch, self.queue = self.queue[:SPAWNS_PER_TURN], self.queue[SPAWNS_PER_TURN:]
        for job in [one for one in batch if one.phase == RECORDED]:  # the others were killed before they began
            if now_ms() >= job.fence_ms:
                self.kill(job, now, 0, "fenced")
                continue
            request, folder, job.since = job.request, f"{self.path}/{job.folder}", now_ms() * TICKS_PER_S // 1_000
            try:
                os.makedirs(folder, exist_ok=True)
                if request["script"] is not None:
                    file = os.open(f"{folder}/script", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
                    with open(file, "w", encoding="utf-8", errors="surrogateescape") as script:
                        script.write(request["script"])
                environment = {fsencode(name): fsencode(value) for name, value in request["environment"].items()}
                more = {**self.habits, "cwd": request["directory"], "env": environment}
                with open(f"{folder}/out", "ab", 0) as out, open(f"{folder}/err", "ab", 0) as err:
                    child = subprocess.Popen(request["argv"], stdout=out, stderr=err, start_new_session=True, **more)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a request, the others go on
                self.end(job, "refused", f"it could not be started: {error}")
                continue
            child.returncode = 0  # we reap it ourselves, so its destructor has nothing to complain of
            job.pid, job.at_ms, job.ticks, job.request = child.pid, wall_ms(), now_ms() * TICKS_PER_S // 1_000, {}
            job.record += (birth := pack("pid", job.key, self.boot, job.at_ms, job.pid, job.ticks))
            self.write(birth, durable=False)
            self.mains[job.pid] = job
            self.watch(job, now)
            self.rows.append(job.started)

    def watch(self, job: Job, now: int) -> None:
        job.started = [job.key, "started", job.at_ms, job.pid, 0, "", "", 0, 0]
        job.phase, job.looked_ms, job.look_ms = RUNNING, now, now + LOOK_MS_MIN
        if job.timeout_ms >= 0:
            job.deadline_ms = (job.ticks + 1) * 1_000 // TICKS_PER_S + job.timeout_ms
        self.look_ms = min(self.look_ms, job.look_ms, job.deadline_ms, job.fence_ms)
        self.sessions[job.pid or -1] = job

    def reap(self, now: int) -> None:
        """Bury the dead and end their attempts, or kill what they left behind."""
        touched, buried = [job for job in self.dying if job.gone and not job.adopted], False
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                job, buried = self.mains.pop(found.si_pid, None), True
                if job and job.phase == RUNNING:  # the dead leader still has the number, so its group is no stranger's
                    send_group(job.pid, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(found.si_pid, 0)[1])
                if job:
                    job.gone, job.code, job.gone_ms = True, code, wall_ms()
                    touched.append(job)
        if not buried and now < self.sweep_ms:
            return
        strays = {pid: (self.claim(pid), stat(pid)[3]) for pid in self.orphans()}
        unsure = not all(born for _, born in strays.values())  # one died just now, and may have left others to us
        keepers = {owner for owner, _ in strays.values()}
        for job in touched:
            if not (unsure or job in keepers or send_group(job.pid, 0)):
                self.end(job, "ended", job.sentence)
            elif job.phase == RUNNING:
                self.kill(job, now, 0)
        for pid, (owner, born) in strays.items():
            if not owner and all(born < job.since for job in self.sessions.values()):  # nobody's who is still running
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def orphans(self) -> list[int]:
        """Our children but the jobs' main processes: they come from a job, and their parent has ended."""
        children = read(f"/proc/self/task/{os.getpid()}/children").split()
        return [pid for pid in map(int, children) if pid not in self.mains]

    def claim(self, pid: int) -> Job | None:
        """Find the job of an orphan: by its session, or by the folder in its environment or of its output."""
        words = read(f"/proc/{pid}/environ").split(b"\0")
        places = [os.fsdecode(one[len(MARK) :]) for one in words if one.startswith(MARK)]
        for name in ("1", "2"):
            with contextlib.suppress(OSError):
                places.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        folders = (os.path.dirname(place).removeprefix(f"{self.path}/") for place in places)
        jobs = (self.sessions.get(stat(pid)[2]), *map(self.folders.get, folders))
        return next(filter(None, jobs), None)

    def kill(self, job: Job, now: int, delay_ms: int, cause: str = "", sentence: str = "") -> None:
        """Let a tree end: TERM at once and KILL after the delay, or KILL at once when there is none."""
        if job.phase == RECORDED:
            job.code, job.cause = -signal.SIGTERM, cause
            return self.end(job, "ended", "it was killed before it began")
        if job.phase == RUNNING:
            job.phase, job.cause, job.sentence = DYING, cause or job.cause, sentence
        job.kill_ms, self.dying[job], self.sweep_ms = min(job.kill_ms, now + delay_ms), None, now
        return None

    def sweep(self, now: int) -> None:
        """Go once through the trees that are to end."""
        if now < self.sweep_ms:
            return
        trees, self.sweep_ms = self.trees(), NEVER_MS
        for job in list(self.dying):
            tree, final = trees.get(job, []), now >= job.kill_ms
            if job.gone and (now >= job.give_up_ms or (job.adopted and not tree)):
                left = f"some of its processes could not be ended: {[pid for pid, *_ in tree[:9]]}" if tree else ""
                lost = "nobody saw how it ended: its guard was killed"
                self.end(job, "lost" if job.adopted else "ended", left or (lost if job.adopted else job.sentence))
                continue
            if final or not job.told:
                number = signal.SIGKILL if final else signal.SIGTERM
                grouped = not job.gone and not job.adopted and send_group(job.pid, number)
                for pid, group, born in tree:
                    with contextlib.suppress(OSError):  # ended meanwhile, or another user's: seen in the next round
                        if not (grouped and group == job.pid) and stat(pid)[3] == born:
                            os.kill(pid, number)
                job.told, job.give_up_ms = True, min(job.give_up_ms, now + TREE_MS_MAX if final else NEVER_MS)
            pace_ms = SWEEP_MS if now < job.give_up_ms else TREE_MS_MAX
            self.sweep_ms = min(self.sweep_ms, now + pace_ms if final else job.kill_ms)

    def trees(self) -> dict[Job | None, list[tuple[int, int, int]]]:
        """Give every process to a job, elders first: by its session, else by its parent, else as an orphan."""
        table = {int(name): stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        orphans = set(table) if any(job.adopted for job in self.dying) else set(self.orphans())
        owners: dict[int, Job | None] = {}
        trees: dict[Job | None, list[tuple[int, int, int]]] = {}
        for pid, (parent, group, session, born) in sorted(table.items(), key=lambda one: (one[1][3], one[0])):
            job = self.sessions.get(session) if born and session else None
            if job and session in table and table[session][3] > job.ticks:
                job = None  # its number has gone to a younger session
            job = owners[pid] = job or owners.get(parent) or (self.claim(pid) if pid in orphans else None)
            if born:
                trees.setdefault(job, []).append((pid, group, born))
        return trees

    def look(self, now: int) -> None:
        """Look at output, deadlines and the disk wherever a limit could be reached by now."""
        if now < self.look_ms:
            return
        scarce = self.free_bytes < self.options["reserve_bytes"]
        for job in [one for one in self.sessions.values() if now >= one.fence_ms]:  # what they left behind, too
            job.fence_ms = NEVER_MS
            self.kill(job, now, max(0, job.lease[0] - job.lease[2] - now), "fenced", "its lease ran out")
        self.look_ms = min((job.fence_ms for job in self.sessions.values()), default=NEVER_MS)
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
                if job.adopted and not 0 < stat(job.pid)[3] <= job.ticks:
                    job.gone, job.gone_ms = True, wall_ms()
                    self.kill(job, now, 0)
            self.look_ms = min(self.look_ms, max(job.look_ms, now + LOOK_MS_MIN), job.deadline_ms)

    def measure(self, job: Job) -> list[int]:
        """Read the sizes of out and err, cut to the limit where they are longer."""
        sizes, mark = [0, 0], job.mark
        for place, name in enumerate(("out", "err") if job.pid else ()):
            marked = len(mark) if job.cut[place] else 0
            with contextlib.suppress(OSError):  # the job removed it, or there is no place for the mark
                sizes[place] = os.lstat(path := f"{self.path}/{job.folder}/{name}").st_size
                if sizes[place] > job.output_bytes_max + marked:
                    job.cut[place] += sizes[place] - job.output_bytes_max - marked
                    with open(path, "ab", 0) as file:
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
                elif verb == "pid":
                    _, self.jobs[key].at_ms, self.jobs[key].pid, self.jobs[key].ticks = rest
                    self.jobs[key].record += pack(verb, key, *rest)
                elif verb == "lease":
                    self.jobs[key].hold(*rest)
        for job in self.jobs.values():
            job.adopted, job.since, self.folders[job.folder] = True, job.ticks, job
            job.gone, job.gone_ms = not (job.pid and 0 < stat(job.pid)[3] <= job.ticks), wall_ms()
            self.watch(job, now_ms())
            if job.gone:
                self.kill(job, now_ms(), 0)

    def accept(self, listener: socket.socket) -> None:
        """Take a new owner, of our user by the mode of the socket, and tell him all that is not forgotten."""
        link, _ = listener.accept()
        self.say(bye="somebody else took over this guard")
        self.drop()
        link.settimeout(SEND_S_MAX)
        self.owner, self.leave, self.input, self.taken = link, False, b"", 0
        self.selector.register(link, selectors.EVENT_READ, functools.partial(self.hear, link))
        self.tell([*self.ended.values(), *(job.started for job in self.jobs.values() if job.started)])
        self.say(ready=os.getpid(), version=VERSION, leases=True)

    def drop(self) -> None:
        if self.owner:
            self.selector.unregister(self.owner)
            self.owner.close()
        self.owner, self.alone_ms = None, now_ms()

    def hear(self, link: socket.socket) -> None:
        chunk = link.recv(1 << 20)  # an error ends this call; the next one finds the end
        *lines, self.input = (self.input + chunk).split(b"\n")
        for line in lines:
            self.taken += 1
            try:
                self.obey(*json.loads(line))
            except Exception as error:  # noqa: BLE001 - as there
                self.say(fault=f"this is no request: {line[:99]!r}: {error}")
        if not chunk or len(self.input) > LINE_BYTES_MAX:
            self.drop()

    def obey(self, verb: str, argument: Any, more: Any = None) -> None:
        if verb == "start":
            self.start(argument)
        elif verb == "forget":
            for key in argument:
                if not self.ended.pop(key, None) and key not in self.jobs:
                    self.ending.pop(key, None)
            self.lines.append(pack("forget", argument))
        elif verb == "lease":
            held = [job for key in argument if (job := self.jobs.get(key)) and now_ms() < job.fence_ms < NEVER_MS]
            longer = [(job.phase, job.hold(more, *job.lease[1:])) for job in held if job.lease[0] < more]
            self.write(b"".join(line for phase, line in longer if phase in (RUNNING, DYING)), durable=False)
        elif verb == "close":
            self.leave = True
            self.say(closed=len(self.jobs))
        elif verb != "kill":
            raise ValueError("unknown verb")
        elif (job := self.jobs.get(argument)) and job.phase != ENDED and not job.gone:
            self.kill(job, now_ms(), 0 if more else job.kill_delay_ms, "killed")

    def say(self, **frame: object) -> None:
        if self.owner:
            try:
                self.owner.sendall(encode(frame).encode() + b"\n")
            except OSError:
                self.drop()

    def tell(self, rows: list[list[Any]]) -> None:
        while self.owner and (rows or self.taken):
            self.say(reports=rows[:ROWS_PER_FRAME], taken=self.taken)
            self.taken, rows = 0, rows[ROWS_PER_FRAME:]


def main() -> None:
    """Guard the directory of the first argument; the second holds options, with the descriptors we were born with."""
    options = json.loads(sys.argv[2])
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a job leaves behind comes to us, not to init
    guard, listener = Guard(sys.argv[1], options), socket.socket(fileno=options["listener"])
    wake, bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    for number in HEARD:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    guard.selector.register(wake, selectors.EVENT_READ, functools.partial(wake.recv, 4_096))
    guard.selector.register(listener, selectors.EVENT_READ, functools.partial(guard.accept, listener))
    guard.recover()
    guard.run()


if __name__ == "__main__":
    main()
