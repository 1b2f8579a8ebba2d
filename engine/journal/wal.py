"""Reads a write-ahead log without SQLite, to tell a torn end from damage in the middle. Floor 4.

SQLite takes the log up to the first frame whose checksum is wrong and forgets the rest in silence. After a power cut
that is right, because only the last transaction can be torn; when a bit has flipped further up, acknowledged records
vanish.
* Each commit is fsynced before the next one is written, so whatever follows a whole later commit was durable once.
* A frame belongs to the present log when it carries the salts of the header; older frames do not.
* Nothing here writes, and the database file itself is never opened (that would drop SQLite's locks on it).
"""

import os
import struct
from typing import BinaryIO

import msgspec

from engine.ports import StoreFault

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682  # the lowest bit tells the byte order of the checksums
_VERSION = 3007000
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))


class WalScan(msgspec.Struct, frozen=True):
    """What a write-ahead log holds: frames that count, what is wrong (None: nothing, or a torn end), and its salts."""

    frames: int
    fault: str | None = None
    salts: tuple[int, int] = (0, 0)


def scan_wal(path: str) -> WalScan:
    """Scan the write-ahead log at `path`; no file or an empty one is no fault. Costs 60 µs a frame; raises OSError.

    A fault counts only when a second look shows the same: a running engine may write while it is being read.
    """
    try:
        with open(path, "rb") as file:
            found = _scan(file)
            while found.fault:
                again = _scan(file)
                if again == found:
                    break
                found = again
            return found
    except FileNotFoundError:
        return WalScan(0)


def refuse_lone_log(path: str) -> None:
    """Raise StoreFault when the journal at `path` is empty or gone and a log with commits lies beside it.

    Asked before any connection: SQLite deletes the log of an empty file at the first look, whoever looks. The file
    itself is on the disk before its log is begun, so something else has emptied it.
    """
    if os.path.exists(path) and os.path.getsize(path):
        return
    log = scan_wal(path + "-wal")
    if log.frames or log.fault:
        raise StoreFault(
            f"The journal {path} is damaged: it is empty or gone, and the write-ahead log beside it holds records. Both"
            " were left as they are; restore a backup that was made together with its log."
        )


def _scan(file: BinaryIO) -> WalScan:
    file.seek(0)
    header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return WalScan(0)
    magic, version, page_bytes, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", header)
    order = ">" if magic & 1 else "<"
    seed = checksum(header[:24], order, (0, 0))
    sound = magic & ~1 == _MAGIC and version == _VERSION and page_bytes in _PAGE_SIZES and seed == (sum_1, sum_2)
    if not sound:
        return _unreadable(file)
    salts, frames, commits_behind, frame = (salt_1, salt_2), 0, 0, b""
    size = FRAME_HEADER_BYTES + page_bytes
    while len(frame := file.read(size)) == size:
        number, commit, *frame_salts = struct.unpack(">4I", frame[:16])
        if tuple(frame_salts) != salts or number == 0:
            break
        seed = checksum(frame[FRAME_HEADER_BYTES:], order, checksum(frame[:8], order, seed))
        if seed != struct.unpack(">2I", frame[16:24]):
            break
        frames += 1
    # From the first frame that does not count: is there anything of this log behind a whole commit?
    while len(frame) == size:
        _, commit, *frame_salts = struct.unpack(">4I", frame[:16])
        if tuple(frame_salts) == salts:
            if commits_behind:
                return WalScan(frames, f"has a damaged frame {frames + 1} with whole transactions behind it", salts)
            commits_behind += commit != 0
        frame = file.read(size)
    return WalScan(frames)


def _unreadable(file: BinaryIO) -> WalScan:
    # A header is written and fsynced before the first commit is acknowledged. If two commits agree on their salts there
    # was a header once; otherwise this is the torn beginning of a log in which nothing was acknowledged.
    content = file.read(4 * (FRAME_HEADER_BYTES + _PAGE_SIZES[-1]))
    for page_bytes in _PAGE_SIZES:
        size = FRAME_HEADER_BYTES + page_bytes
        heads = [content[at : at + 16] for at in range(0, len(content) - size + 1, size)]
        commits = [head[8:] for head in heads if head[4:8] != bytes(4) and head[8:] != bytes(8)]
        if len(commits) >= 2 and commits[0] == commits[1]:
            return WalScan(0, "has a damaged header with whole transactions behind it")
    return WalScan(0)


def checksum(content: bytes, order: str, seed: tuple[int, int]) -> tuple[int, int]:
    """Compute the checksum of SQLite's file format (section 4.2 of its description) over a multiple of 8 bytes."""
    first, second = seed
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for word, next_word in zip(words, words, strict=True):
        first = (first + word + second) & 0xFFFFFFFF
        second = (second + next_word + first) & 0xFFFFFFFF
    return first, second
