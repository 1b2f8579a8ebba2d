"""Snapshot: the program that replays a journal beside a running node and writes the state down. Floor 6.

* Started by the node itself: `python -m engine.snapshot ROLE NODE JOURNAL UPTO OUT`. It reads the journal, changes
  nothing, and ends.
"""

import sys
from collections.abc import Iterable
from typing import Any

from engine.base.ids import AgentId
from engine.journal.snapshots import make_snapshot_file
from engine.language import standard_language
from engine.ports import Machine, Record, Snapshot
from engine.rules.agent import AgentMachine
from engine.rules.controller import ControllerMachine
from engine.runtime.recovery import begin_recovery, replay, snapshot_bytes


def machine_for(role: str, node: str) -> Machine[Any, Any, Any, Any]:
    """Return the machine that wrote a node's journal; raises ValueError for a role without one."""
    if role == "controller":
        return ControllerMachine(standard_language())
    if role == "agent":
        return AgentMachine(standard_language(), AgentId(node))
    raise ValueError(f"a {role} has no journal")


def state_after(machine: Machine[Any, Any, Any, Any], snapshot: Snapshot | None, records: Iterable[Record]) -> bytes:
    """Return the bytes of a snapshot behind the records."""
    recovered = begin_recovery(machine, snapshot)
    for record in records:
        replay(machine, recovered, [record])
    return snapshot_bytes(machine, recovered)


def main(arguments: list[str]) -> None:
    """Make one snapshot."""
    role, node, journal, upto, out = arguments
    machine = machine_for(role, node)
    make_snapshot_file(journal, int(upto), out, lambda snapshot, records: state_after(machine, snapshot, records))


if __name__ == "__main__":
    main(sys.argv[1:])
