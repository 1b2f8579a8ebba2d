"""Who may import whom: the floors of the house, cycles, and the rules of single packages."""

import re
import sys
import tomllib
from collections.abc import Iterator

from tests.house.tree import SOURCE_FOLDERS, House, PythonFile

# The floors, highest first; ARCHITECTURE.md prints the same table. An import goes to a strictly lower floor or stays
# inside its own package. If a forced edge breaks this table, mend the table, here and there, with the reason.
FLOORS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (12, ("engine.__main__", "engine.__init__")),
    (11, ("engine.cli",)),
    (10, ("engine.embed", "engine.simulation")),
    (9, ("engine.boot", "engine.real")),
    (8, ("actors",)),
    (7, ("engine.web",)),
    (6, ("engine.client", "engine.pair", "engine.snapshot")),
    (5, ("engine.runtime", "engine.history", "engine.documents", "engine.language")),
    (4, ("engine.journal", "engine.jobs", "transports")),
    (3, ("engine.rules",)),
    (2, ("engine.model",)),
    (1, ("engine.ports",)),
    (0, ("engine.base",)),
)
FLOOR_OF = {package: floor for floor, packages in FLOORS for package in packages}

# Imports that the floors would allow and the design does not: who, what not, why.
FORBIDDEN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("engine.runtime", ("engine.model", "engine.rules"), "it moves ids and bytes; take what it needs through a port"),
    ("engine.journal", ("engine.model", "engine.rules"), "it stores bytes; replay goes through ports.SnapshotMaker"),
    ("transports", ("engine.model", "engine.rules"), "a transport carries bytes and knows nothing of them"),
    ("actors", ("transports",), "an actor dials through its World; engine.boot chooses the transport"),
    (
        "actors",
        ("socket", "ssl", "subprocess", "sqlite3", "aiosqlite", "shutil", "tempfile", "time", "random"),
        "an actor has no I/O of its own; everything goes through its World",
    ),
)

# What pure rules may import besides floors 0 to 2: modules without clock, randomness, I/O or concurrency.
_PURE = (
    "abc array ast base64 binascii bisect calendar cmath collections contextlib copy copyreg dataclasses datetime "
    "decimal difflib enum fractions functools graphlib hashlib heapq itertools keyword math numbers operator re "
    "statistics string struct textwrap types typing unicodedata warnings weakref zlib zoneinfo "
    "cronsim lark msgspec tzdata"
)
PURE = frozenset(_PURE.split())
PURE_PACKAGES = ("engine.rules",)

GUARD = "engine.jobs.guard"  # one script that outlives us: it starts in milliseconds and breaks with no upgrade of ours

# Distributions whose import name differs from their own.
DISTRIBUTIONS = {"yaml": "pyyaml", "prometheus_client": "prometheus-client", "argon2": "argon2-cffi"}


def package_of(module: str) -> str | None:
    """The entry of the floors table that a module belongs to."""
    if module in {"engine", "engine.__main__"}:
        return "engine.__main__" if module.endswith("__main__") else "engine.__init__"
    while module:
        if module in FLOOR_OF:
            return module
        module = module.rpartition(".")[0]
    return None


def floor_of(module: str) -> int | None:
    """The floor of a module, None where the table does not name it."""
    package = package_of(module)
    return None if package is None else FLOOR_OF[package]


def check_floors(house: House) -> Iterator[str]:
    """An import goes to a strictly lower floor or stays inside its own package."""
    for file in house.source.values():
        if package_of(file.module) is None:
            yield f"{file.path}:1: is on no floor; move it into a package, or add it to FLOORS and ARCHITECTURE.md"
    for file, target, line in house.edges:
        own, other = package_of(file.module), package_of(target)
        if own is None or own == other:
            continue
        if other is None:
            yield f"{file.path}:{line}: imports {target}, which is on no floor"
        elif FLOOR_OF[other] >= FLOOR_OF[own]:
            yield (
                f"{file.path}:{line}: imports {target} (floor {FLOOR_OF[other]}) from floor {FLOOR_OF[own]}; imports "
                "go strictly down: move the shared part to a lower floor, or put a port between them"
            )


def check_siblings(house: House) -> Iterator[str]:
    """No actor imports another actor."""
    for file, target, line in house.edges:
        own, other = file.module.split("."), target.split(".")
        if own[0] == other[0] == "actors" and len(own) > 1 and len(other) > 1 and own[1] != other[1]:
            yield (
                f"{file.path}:{line}: actor {own[1]} imports actor {other[1]}; they talk over links only, and what "
                "they share belongs to engine.runtime or engine.rules"
            )


def check_forbidden(house: House) -> Iterator[str]:
    """Single packages keep away from what the design keeps from them."""
    for who, kept_away, why in FORBIDDEN:
        for file in _files_of(house, who):
            for line, target in _targets(house, file):
                for name in kept_away:
                    if _inside(target, name):
                        yield f"{file.path}:{line}: {who} must not import {target}: {why}"


def check_pure(house: House) -> Iterator[str]:
    """The rules import nothing that has a clock, randomness, I/O or concurrency, and await nothing."""
    for who in PURE_PACKAGES:
        for file in _files_of(house, who):
            for one in file.imports:
                root = one.target.partition(".")[0]
                if root not in SOURCE_FOLDERS and root not in PURE:
                    yield (
                        f"{file.path}:{one.line}: {who} is pure and must not import {one.target}; take time and "
                        "randomness as arguments, return effects for the rest (a pure module may join PURE in "
                        "tests/house/floors.py)"
                    )
            for function in file.functions:
                if function.is_async:
                    yield f"{file.path}:{function.line}: {who} is pure; {function.name} must not be async"
            for use in file.uses:
                if use.path in {"builtins.open", "builtins.input", "builtins.exec", "builtins.eval"}:
                    yield f"{file.path}:{use.line}: {who} is pure and must not call {use.path.partition('.')[2]}"


def check_guard(house: House) -> Iterator[str]:
    """The guard is one script of the standard library alone."""
    file = house.source.get(GUARD)
    for one in file.imports if file else ():
        if one.target.partition(".")[0] not in sys.stdlib_module_names:
            yield f"{file.path if file else GUARD}:{one.line}: the guard imports {one.target}; standard library only"


def check_declared(house: House) -> Iterator[str]:
    """Every foreign import is declared in pyproject.toml."""
    declared = _declared(house)
    for file in house.source.values():
        for one in file.imports:
            root = one.target.partition(".")[0]
            if root in sys.stdlib_module_names or root in SOURCE_FOLDERS:
                continue
            if DISTRIBUTIONS.get(root, root).replace("_", "-").lower() not in declared:
                yield f"{file.path}:{one.line}: imports {root}, which pyproject.toml does not declare"


def check_cycles(house: House) -> Iterator[str]:
    """No module reaches itself through imports, not even inside one package."""
    edges: dict[str, dict[str, int]] = {module: {} for module in house.source}
    for file, target, line in house.edges:
        if target in edges:
            edges[file.module].setdefault(target, line)
    for cycle in _cycles(edges):
        steps = [
            f"{house.source[one].path}:{edges[one][other]} imports {other}"
            for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
        ]
        place = f"{house.source[cycle[0]].path}:{edges[cycle[0]][cycle[1]]}"
        yield f"{place}: import cycle: {'; '.join(steps)}; move the shared part into a third module"


def check_table(house: House) -> Iterator[str]:
    """ARCHITECTURE.md prints the same floors."""
    text = house.document("ARCHITECTURE.md")
    if text is None:
        return  # the page joins later; from then on it must agree
    printed = dict(printed_floors(text))
    wanted = {floor: frozenset(packages) for floor, packages in FLOORS}
    if not printed:
        yield "ARCHITECTURE.md:1: has no table `| floor | packages |`; print the one of `make graph`"
        return
    for floor in sorted(set(printed) | set(wanted), reverse=True):
        if printed.get(floor) != wanted.get(floor):
            here, there = (", ".join(sorted(one.get(floor, frozenset()))) or "nothing" for one in (printed, wanted))
            yield f"ARCHITECTURE.md:1: floor {floor} holds {here}, but FLOORS in tests/house/floors.py says {there}"


def printed_floors(text: str) -> Iterator[tuple[int, frozenset[str]]]:
    """Read the rows `| 4 | `engine.journal`, `transports` | …` below a head row `| floor | packages | …`."""
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if [cell.lower() for cell in cells[:2]] == ["floor", "packages"]:
            inside = True
        elif not line.lstrip().startswith("|"):
            inside = False
        elif inside and cells[0].isdigit():
            names = re.findall(r"`([^`]+)`", cells[1])
            yield int(cells[0]), frozenset(name.removesuffix(".py").rstrip("/").replace("/", ".") for name in names)


def _files_of(house: House, package: str) -> Iterator[PythonFile]:
    yield from (file for file in house.source.values() if _inside(file.module, package))


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _targets(house: House, file: PythonFile) -> Iterator[tuple[int, str]]:
    yield from ((one.line, one.target) for one in file.imports if house.module_of(one) is None)
    yield from ((line, target) for source, target, line in house.edges if source is file)


def _declared(house: House) -> set[str]:
    text = house.document("pyproject.toml") or ""
    project = tomllib.loads(text).get("project", {})
    extras = project.get("optional-dependencies", {})
    wanted = [*project.get("dependencies", ()), *(one for extra in extras.values() for one in extra)]
    return {re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0].replace("_", "-").lower() for one in wanted}


def _cycles(edges: dict[str, dict[str, int]]) -> Iterator[list[str]]:
    """Yield one shortest cycle for each knot of modules, in the order of names."""
    told: set[str] = set()
    for start in sorted(edges):
        if start in told:
            continue
        came_from: dict[str, str] = {}
        queue = [start]
        while queue and start not in came_from:
            current = queue.pop(0)
            for target in edges[current]:
                if target not in came_from:
                    came_from[target] = current
                    queue.append(target)
        if start in came_from:
            cycle = [start]
            while (previous := came_from[cycle[-1]]) != start:
                cycle.append(previous)
            cycle[1:] = reversed(cycle[1:])
            told.update(cycle)
            yield cycle
