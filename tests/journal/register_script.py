"""A program that raises the epoch of one cluster and says what was answered; tests kill it, starve it, cut its power.

Usage: register_script.py FOLDER UPTO [CHECKPOINT_CALLS]
Lines: `open N` the register had epoch N; `acked N` epoch N was answered; `fault …` the register failed; `closed`.
"""

import asyncio
import os
import sys

from engine.base.pair import Member, Ownership
from engine.journal import register
from engine.journal.register import SqliteRegister, open_sqlite_register
from engine.ports import StoreFault

SMALL_CHECKPOINT_CALLS = 7  # so that a short run has all that a long one has
CLUSTER = "killed"


def owned(epoch: int) -> Ownership:
    """The value of an epoch; its length changes, so that rows move inside their page."""
    members = tuple(Member(name, f"store-{name}{'x' * (epoch % 50)}") for name in "ab"[: 1 + epoch % 2])
    return Ownership(CLUSTER, epoch, "a", members, epoch * 3)


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def raise_epochs(kept: SqliteRegister, upto: int) -> None:
    value = await kept.create(owned(1))
    assert value == owned(value.epoch)
    say(f"open {value.epoch}")
    say(f"acked {value.epoch}")
    while value.epoch < upto:
        new = owned(value.epoch + 1)
        value, answer = new, await kept.cas(value, new)
        assert answer == new
        say(f"acked {new.epoch}")


async def run(folder: str, upto: int) -> None:
    kept = await open_sqlite_register(folder)
    try:
        await raise_epochs(kept, upto)
    finally:
        await kept.close()
    say("closed")


def main() -> int:
    register.CHECKPOINT_CALLS = SMALL_CHECKPOINT_CALLS
    if len(sys.argv) > 3:
        register.CHECKPOINT_CALLS = int(sys.argv[3])
    try:
        asyncio.run(run(sys.argv[1], int(sys.argv[2])))
    except StoreFault as fault:
        say(f"fault {fault}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
