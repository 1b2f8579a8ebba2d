"""The pages that are written by a program from the source: docs/problems.md, docs/events.md, docs/order-states.md.

`make docs` writes them; a test compares what it would write with what is there.
"""

import ast
import re
import sys
from collections.abc import Iterator

from tests.house.order_states import order_states_page
from tests.house.tree import House, PythonFile, our_house

PROBLEM = "engine.base.problem.problem"
EVENTS = "engine.model.event"
EVENT_BASE = "Event"

_BANNER = re.compile(r"^# -{3,} (.+?) -{3,}$")
_BRACED = re.compile(r"\{(\w+)[^}]*\}")

PROBLEMS_HEAD = """# Problems

Every refusal that a command, a document or the command line can be answered with. The code is stable and meant for
programs; the sentence is meant for people, and the names in braces are its arguments.

This page is written by `make docs`; the problems are declared beside the rules that return them.
"""

EVENTS_HEAD = """# Events

The facts that a journal holds: a closed set, composed by all instructions. An event that *travels* is written by an
agent and adopted by its controller; the others stay where they were written. Instants and spans are milliseconds.

This page is written by `make docs` from engine/model/event.py.
"""


class Declared:
    """One declared problem: where, its code, its sentence."""

    def __init__(self, file: PythonFile, line: int, variable: str, code: str, sentence: str) -> None:
        self.file, self.line, self.variable, self.code, self.sentence = file, line, variable, code, sentence


def problems(house: House) -> tuple[list[Declared], list[str]]:
    """Return all declared problems in order of path and line, and complaints about those that cannot be read."""
    found: list[Declared] = []
    complaints: list[str] = []
    for file in sorted(house.source.values(), key=lambda one: one.path):
        uses = {use.line for use in file.uses if use.path == PROBLEM}
        if not uses:
            continue
        declared_lines: set[int] = set()
        for node in file.tree.body:
            if not (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call)):
                continue
            call = node.value
            if call.func.lineno not in uses or ast.unparse(call.func).rpartition(".")[2] != "problem":
                continue
            declared_lines.add(call.func.lineno)
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                code, sentence = (ast.literal_eval(argument) for argument in call.args)
            except ValueError:
                complaints.append(f"{file.path}:{node.lineno}: write problem(code, sentence) with two plain strings")
                continue
            found.append(Declared(file, node.lineno, ast.unparse(target), code, sentence))
        complaints += [
            f"{file.path}:{line}: declare a problem at the top of the module, `Late = problem(…)`; the page lists "
            "what stands there"
            for line in sorted(uses - declared_lines)
        ]
    return found, complaints


def check_problems(house: House) -> Iterator[str]:
    """Problems are declared once, at module level, under their own name, with a sentence."""
    found, complaints = problems(house)
    yield from complaints
    first: dict[str, Declared] = {}
    for one in found:
        place = f"{one.file.path}:{one.line}"
        if one.variable != one.code:
            yield f"{place}: problem {one.code} is assigned to {one.variable}; give both the same name"
        if one.code in first:
            other = first[one.code]
            yield f"{place}: problem {one.code} is declared in {other.file.path}:{other.line} already; rename one"
        if not one.sentence.strip():
            yield f"{place}: problem {one.code} has no sentence; say what happened, where, and what to do"
        first.setdefault(one.code, one)


def problems_page(house: House) -> str:
    """Write docs/problems.md: one table for each package that declares problems."""
    by_file: dict[str, list[Declared]] = {}
    for one in problems(house)[0]:
        by_file.setdefault(one.file.path, []).append(one)
    parts = [PROBLEMS_HEAD]
    for path, declared in by_file.items():
        parts.append(f"\n## {path}\n\n| code | sentence | arguments |\n|---|---|---|\n")
        for one in sorted(declared, key=lambda each: each.code):
            arguments = ", ".join(f"`{name}`" for name in dict.fromkeys(_BRACED.findall(one.sentence))) or "none"
            parts.append(f"| `{one.code}` | {_cell(one.sentence)} | {arguments} |\n")
    return "".join(parts)


def events_page(house: House) -> str:
    """Write docs/events.md: a section for each banner comment of the module, an entry for each event."""
    file = house.source.get(EVENTS)
    if file is None:
        return EVENTS_HEAD
    classes = {node.name: node for node in file.tree.body if isinstance(node, ast.ClassDef)}
    lines = file.text.splitlines()
    banners = [(number, match[1]) for number, line in enumerate(lines, 1) if (match := _BANNER.match(line))]
    parts, section = [EVENTS_HEAD], ""
    bases = {base for node in classes.values() for base in _bases(node)}
    for node in classes.values():
        family = list(_family(node, classes))
        if EVENT_BASE not in (one.name for one in family) or node.name in bases:
            continue
        title = next((text for number, text in reversed(banners) if number < node.lineno), "")
        if title != section:
            section = title
            parts.append(f"\n## {title[:1].upper()}{title[1:]}\n")
        travels = _travels(family)
        parts.append(f"\n### {node.name}\n\n{_prose(node)}{' *Travels.*' if travels else ''}\n")
        fields = [field for one in reversed(family) for field in _fields(one)]
        if fields:
            parts.append("\n| field | type |\n|---|---|\n")
            parts += [f"| `{name}` | `{_cell(text)}` |\n" for name, text in fields]
    return "".join(parts)


PAGES = {
    "docs/problems.md": problems_page,
    "docs/events.md": events_page,
    "docs/order-states.md": order_states_page,
}


def check_pages(house: House) -> Iterator[str]:
    """The written pages are those that `make docs` would write now."""
    for path, write in PAGES.items():
        committed, wanted = house.document(path), write(house)
        if committed is None:
            yield f"{path}: does not exist; `make docs` writes it"
        elif committed != wanted:
            old, new = committed.splitlines(), wanted.splitlines()
            line = next((n for n, pair in enumerate(zip(old, new, strict=False), 1) if pair[0] != pair[1]), None)
            line = line or min(len(old), len(new)) + 1
            says, should = (one[line - 1] if line <= len(one) else "(the end)" for one in (old, new))
            yield f"{path}:{line}: is out of date: says {says!r}, the source says {should!r}; run `make docs`"


def _family(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """The class and its bases in this module, nearest first."""
    yield node
    for base in _bases(node):
        if base in classes:
            yield from _family(classes[base], classes)


def _bases(node: ast.ClassDef) -> list[str]:
    return [base.id for base in node.bases if isinstance(base, ast.Name)]


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            annotation = ast.unparse(inner.annotation).strip("'\"")
            if not annotation.startswith("ClassVar"):
                default = f" = {ast.unparse(inner.value)}" if inner.value is not None else ""
                yield inner.target.id, annotation + default


def _travels(family: list[ast.ClassDef]) -> bool:
    for one in family:
        for inner in one.body:
            if isinstance(inner, ast.AnnAssign) and ast.unparse(inner.target) == "travels" and inner.value is not None:
                return bool(ast.literal_eval(inner.value))
    return False


def _prose(node: ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> int:
    """Write the pages that have changed."""
    house = our_house()
    for path, write in PAGES.items():
        text = write(house)
        if house.document(path) != text:
            (house.root / path).parent.mkdir(exist_ok=True)
            (house.root / path).write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
