"""The corpus: seeds that failed are kept, and are run first the next time. Floor 10.

* One small JSON file for each: processes that run at once (pytest-xdist) lose nothing of each other's.
* A kept seed leaves when it has passed PASSES_WANTED times with the very settings, or when a person removes its file.
* A seed kept under other settings means something else now: it is told of, not run.
* A file that can not be read is told of and left alone; nothing here ever fails a test.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

FOLDER = ".understudy-seeds"
PASSES_WANTED = 3
TEST_ENTRIES_MAX = 50  # of one test; then the oldest leaves
FOLDER_ENTRIES_MAX = 2_000  # of all tests together; then none is added
FILE_BYTES_MAX = 64 * 1024
BREACH_CHARS_MAX = 500
SLUG_CHARS_MAX = 60
OFF = "off"

Tell = Callable[[str], None]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One seed that failed. `settings`: their digest. `at`: when it failed first, UTC. `passed`: how often since."""

    test: str
    seed: int
    settings: str
    breach: str
    at: str
    passed: int = 0


class Corpus:
    """The kept seeds of one test."""

    def __init__(self, folder: Path, test: str, tell: Tell) -> None:
        """`tell`: what is called with a sentence for the person."""
        self.folder = folder
        self.test = test
        self._tell = tell
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", test).strip("-")[-SLUG_CHARS_MAX:]
        self._start = f"{slug}-{hashlib.blake2b(test.encode(), digest_size=4).hexdigest()}"

    def entries(self, settings: str) -> list[Entry]:
        """Return the seeds that were kept under these settings, the oldest first; tell of the others."""
        kept = sorted((entry for _, entry in self._read()), key=lambda one: (one.at, one.seed))
        others = [entry for entry in kept if entry.settings != settings]
        if others:
            seeds = ", ".join(str(one.seed) for one in others[:10]) + (", …" if len(others) > 10 else "")
            self._tell(
                f"{self.test}: kept seeds {seeds} failed under other settings (cluster, faults or jobs) and can not be "
                f"compared; they are not run. Remove their files in {self.folder} when you do not need them."
            )
        return [entry for entry in kept if entry.settings == settings]

    def keep(self, seed: int, settings: str, breach: str) -> Path | None:
        """Keep a seed that has just failed and return its file; None where nothing could be written."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = Entry(test=self.test, seed=seed, settings=settings, breach=breach[:BREACH_CHARS_MAX], at=at)
        path = self._path(entry)
        try:
            self.folder.mkdir(exist_ok=True)
            if not path.exists():
                self._make_room()
            self._write(path, entry)
        except OSError as error:
            self._tell(f"Seed {seed} of {self.test} could not be kept: {error.strerror or error} ({path}).")
            return None
        return path

    def passed(self, entry: Entry) -> None:
        """Count that a kept seed has passed; after enough times it is forgotten."""
        path, passed = self._path(entry), entry.passed + 1
        try:
            if passed >= PASSES_WANTED:
                path.unlink(missing_ok=True)
                self._tell(f"{self.test}: seed {entry.seed} has passed {passed} times and is no longer kept.")
            elif path.exists():  # who removed it meanwhile wants it gone
                self._write(path, msgspec.structs.replace(entry, passed=passed))
        except OSError as error:
            self._tell(f"{path} can not be changed: {error.strerror or error}.")

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{self._start}-{entry.seed}-{entry.settings}.json"

    def _write(self, path: Path, entry: Entry) -> None:
        """Put a file in place whole, whoever else writes at this moment."""
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(entry), indent=2) + b"\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Let the oldest of this test leave; raises OSError when the folder is full of other tests' seeds."""
        own = sorted(self._read(), key=lambda one: one[1].at)
        while len(own) >= TEST_ENTRIES_MAX:
            own.pop(0)[0].unlink(missing_ok=True)
        if sum(1 for _ in self.folder.glob("*.json")) >= FOLDER_ENTRIES_MAX:
            raise OSError(f"{self.folder} holds {FOLDER_ENTRIES_MAX} seeds already; remove what nobody needs")

    def _read(self) -> Iterator[tuple[Path, Entry]]:
        try:
            paths = sorted(self.folder.glob(f"{self._start}-*.json"))
        except OSError:
            return
        for path in paths[: 2 * TEST_ENTRIES_MAX]:
            try:
                with path.open("rb") as file:
                    entry = msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Entry)
            except FileNotFoundError:
                continue  # another process was quicker
            except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
                self._tell(f"{path} can not be read and is ignored ({error}); remove it.")
                continue
            if entry.test != self.test or self._path(entry) != path:
                self._tell(f"{path} does not hold what its name says and is ignored; remove it.")
                continue
            yield path, entry


def corpus_folder(file: str, wanted: str | None) -> Path | None:
    """Say where the kept seeds of a test's file are: where the person wants them, else beside the file; None: nowhere.

    `wanted`: a folder, `off`, or nothing. A test that comes from no file keeps nothing by itself.
    """
    if wanted:
        return None if wanted == OFF else Path(wanted)
    return Path(file).absolute().parent / FOLDER if os.path.isfile(file) else None
