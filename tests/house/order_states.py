"""docs/order-states.md: an order's life, drawn from the transition table of engine/model/order.py.

`make docs` writes it (tests/house/catalogue.py). Where the table says None, the event tells the state: RETURNS.
"""

import ast
import re
from collections.abc import Iterator

from tests.house.tree import House, PythonFile

ORDER = "engine.model.order"
EVENT = "engine.model.event"
RETURNS = {
    "OrderResumed": (("SUSPENDED", "FRESH"), ("SUSPENDED", "WAITING"), ("SUSPENDED", "READY"), ("FAILED", "READY"))
}
"""Events that lead back to where an order was; tests/rules/test_order.py holds them against the rules."""

REMARKS = {
    "SUSPENDED": "stands still until a person resumes it",
    "FAILED": "ended by a failure that nobody caught",
    "FINISHED": "reached its end with success",
    "CANCELLED": "ended because a person said so",
}
"""For states whose own line says no more than their name."""

HEAD = """# The states of an order

A branch of a fork is an order of its own, with the same life. What a person asked for (suspend, cancel, kill) is a
mark beside the state, and takes effect between two steps. Where the order is (at the controller, on its way to an
agent, at an agent) is no state either: its attachment.

This page is written by `make docs` from the table TRANSITIONS of engine/model/order.py. An event that the table does
not allow in a state is a mistake of ours and ends the node before anything of it becomes visible; what an agent
reports is checked against the same table before it is taken over, and breaks that one order.
"""


class Change:
    """One row of the table: an event, the states in which it may happen (None: all that live), the state after it."""

    def __init__(self, event: str, sources: list[str] | None, target: str | None) -> None:
        self.event, self.sources, self.target = event, sources, target


def order_states_page(house: House) -> str:
    """Write the page: the states, the picture, the table."""
    file = house.source.get(ORDER)
    if file is None:
        return HEAD
    states = {name: (value, remark) for name, value, remark in _states(file)}
    terminal = _names_in(file, "TERMINAL")
    changes = list(_changes(file))
    parts = [HEAD, "\n| state | meaning | lives |\n|---|---|---|\n"]
    for name, (value, remark) in states.items():
        end = ("no" if name in terminal else "yes") + (", but can be resumed" if name == "FAILED" else "")
        parts.append(f"| `{value}` | {remark or REMARKS.get(name, '')} | {end} |\n")
    parts += ["\n```mermaid\n", *_picture(states, terminal, changes), "```\n"]
    parts.append("\nEvents that leave the state as it is are in the table only.\n")
    parts.append("\n| event | in state | leads to | meaning |\n|---|---|---|---|\n")
    meanings = _meanings(house)
    for change in changes:
        sources = "any that lives" if change.sources is None else ", ".join(states[one][0] for one in change.sources)
        parts.append(
            f"| `{change.event}` | {sources} | {_leads(change, states)} | {meanings.get(change.event, '')} |\n"
        )
    return "".join(parts)


def _picture(states: dict[str, tuple[str, str]], terminal: list[str], changes: list[Change]) -> Iterator[str]:
    yield "stateDiagram-v2\n"
    yield '    state "any that lives" as live\n'
    yield f"    [*] --> {next(iter(states.values()))[0]}: OrderAdded\n"
    edges: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        pairs = list(RETURNS.get(change.event, ()))
        if change.target is not None:
            pairs = [(source, change.target) for source in change.sources or ("live",)]
        for source, target in pairs:
            if source != target:
                start = "live" if source == "live" else states[source][0]
                edges.setdefault((start, states[target][0]), []).append(change.event)
    for (start, end), events in edges.items():
        yield f"    {start} --> {end}: {', '.join(events)}\n"
    for name in terminal:
        yield f"    {states[name][0]} --> [*]\n"


def _leads(change: Change, states: dict[str, tuple[str, str]]) -> str:
    if change.event in RETURNS:
        targets = dict.fromkeys(states[target][0] for _, target in RETURNS[change.event])
        return f"where it was: {', '.join(targets)}"
    if change.target is None:
        return "as it is"
    return states[change.target][0]


def _states(file: PythonFile) -> Iterator[tuple[str, str, str]]:
    lines = file.text.splitlines()
    for node in file.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "OrderState":
            for inner in node.body:
                if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                    remark = re.search(r"#\s*(.+)$", lines[inner.lineno - 1])
                    yield inner.targets[0].id, ast.literal_eval(inner.value), remark[1] if remark else ""


def _changes(file: PythonFile) -> Iterator[Change]:
    table = _assigned(file, "TRANSITIONS")
    assert isinstance(table, ast.Dict)
    for key, value in zip(table.keys, table.values, strict=True):
        assert key is not None
        assert isinstance(value, ast.Tuple)
        sources, target = value.elts
        named = [one.attr for one in ast.walk(sources) if isinstance(one, ast.Attribute)]
        yield Change(ast.literal_eval(key), named or None, target.attr if isinstance(target, ast.Attribute) else None)


def _names_in(file: PythonFile, variable: str) -> list[str]:
    found = _assigned(file, variable)
    assert found is not None
    return [one.attr for one in ast.walk(found) if isinstance(one, ast.Attribute)]


def _assigned(file: PythonFile, variable: str) -> ast.expr | None:
    for node in file.tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id == variable:
            return node.value
    raise AssertionError(f"{file.path} does not define {variable}")


def _meanings(house: House) -> dict[str, str]:
    file = house.source.get(EVENT)
    classes = [] if file is None else [node for node in file.tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: " ".join((ast.get_docstring(node) or "").split()) for node in classes}
