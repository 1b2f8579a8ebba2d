"""Every source file has its test, and every source file is used.

* `engine/journal/feed.py` is tested by `tests/journal/test_feed.py`; `engine/ports.py` by `tests/test_ports.py`;
  `actors/agent.py` by `tests/actors/test_agent.py`.
* Or a test module names it in its docstring, on a line `Tests: engine/x/y.py, engine/x/z.py`.
"""

import re
import tomllib
from collections.abc import Iterator

from tests.house.tree import House, PythonFile

# Packages whose modules are found by a registry or chosen by name: nobody imports them one by one.
REGISTRIES = ("engine.rules.instructions", "engine.rules.commands", "engine.jobs", "transports", "engine.cli")

# Modules that somebody outside starts or imports.
DOORS = {
    "engine.__main__": "python -m engine",
    "engine.jobs.guard": "started as a script",
    "engine.snapshot": "python -m engine.snapshot, started by a node for its own journal",
    "engine.client.pair": "for those who operate a pair with a program (docs/failover.md); the command line comes next",
    "engine.client.pair_setup": "as engine.client.pair",
    "engine.simulation.pytest_plugin": "found by pytest through its entry point",
    "engine.simulation.sql_disk": "for the seeds that run on SQLite (tests/sim/runs.py)",
    "engine.documents.printer": "for those who write documents with a program; the command line's diff comes next",
}

_TESTS_LINE = re.compile(r"^\s*Tests:\s*(.+)$", re.MULTILINE)


def mirror_of(path: str) -> str:
    """The test file that belongs to a source file by its place alone."""
    folders = path.split("/")
    if folders[0] == "engine":
        del folders[0]
    name = folders.pop().removesuffix(".py").strip("_")
    if name == "init":
        name = folders[-1] if folders else "engine"
    return "/".join(["tests", *folders, f"test_{name}.py"])


def check_tested(house: House) -> Iterator[str]:
    """Every source file with code has a test file beside the mirror, or is named on a `Tests:` line."""
    with_tests = {file.path for file in house.tests if _has_test(file)}
    named: set[str] = set()
    for file in house.tests:
        for path in _named(file):
            if not (house.root / path).is_file():
                yield f"{file.path}:1: says `Tests: {path}`, which does not exist; correct or remove it"
            elif not _has_test(file):
                yield f"{file.path}:1: says `Tests: {path}` but has no test"
            named.add(path)
    for file in house.source.values():
        if file.is_package and not file.has_code:
            continue
        mirror = mirror_of(file.path)
        if mirror not in with_tests and file.path not in named:
            yield (
                f"{file.path}:1: has no test; write {mirror}, or name the file in the docstring of the test module "
                f"that covers it, on a line `Tests: {file.path}`"
            )


def check_used(house: House) -> Iterator[str]:
    """Every module is imported by another, found by a registry, or a door."""
    used = {target for _, target, _ in house.edges}
    used |= {module for file in house.examples for one in file.imports if (module := house.module_of(one))}
    used |= set(_entry_points(house))
    for module, file in house.source.items():
        if file.is_package or module in used or module in DOORS:
            continue
        if module.rpartition(".")[0] in REGISTRIES:
            continue
        yield f"{file.path}:1: nobody imports it; use it, remove it, or name it in DOORS of tests/house/tested.py"


def _named(file: PythonFile) -> Iterator[str]:
    for match in _TESTS_LINE.finditer(file.docstring):
        yield from (
            path.strip().strip("`").rstrip(".") if not path.strip().endswith(".py") else path.strip()
            for path in match[1].split(",")
            if path.strip()
        )


def _has_test(file: PythonFile) -> bool:
    return any(one.name.startswith("test") for one in file.functions)


def _entry_points(house: House) -> Iterator[str]:
    project = tomllib.loads(house.document("pyproject.toml") or "").get("project", {})
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    for group in groups:
        yield from (target.partition(":")[0] for target in group.values())
