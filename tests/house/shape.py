"""The outside of files: sizes, floor lines, unfinished marks, traces of somebody's machine."""

import re
from collections.abc import Iterator

from tests.house.floors import floor_of
from tests.house.tree import House

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SIZED_SUFFIXES = (".sql", ".js", ".mjs", ".css", ".html", ".sh")

# Put together here, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|Users|root|work)/[\w.-]+")
REGISTRY = re.compile(
    "index" + r"-url|trusted" + r"-host|PIP_(?:EXTRA_)?" + r"INDEX_URL|files\.python" + r"hosted\.org"
)

_FLOOR_LINE = re.compile(r"\bFloor (\d+)\b")


def check_file_sizes(house: House) -> Iterator[str]:
    """No file is longer than 500 lines; what is vendored is not ours."""
    sized = [(file.path, file.lines) for file in house.python()]
    sized += [(path, text.count("\n")) for path, text in house.texts() if path.endswith(SIZED_SUFFIXES)]
    for path, lines in sized:
        if lines > FILE_LINES_MAX and "/vendor/" not in path:
            yield f"{path}:{FILE_LINES_MAX + 1}: {lines} lines, at most {FILE_LINES_MAX}; split it by subject"


def check_function_sizes(house: House) -> Iterator[str]:
    """No function is longer than 70 lines, its docstring included."""
    for file in house.python():
        for function in file.functions:
            if function.lines > FUNCTION_LINES_MAX:
                yield (
                    f"{file.path}:{function.line}: function {function.name} has {function.lines} lines, at most "
                    f"{FUNCTION_LINES_MAX}; give its parts names"
                )


def check_floor_lines(house: House) -> Iterator[str]:
    """Each module's docstring names its floor, and it is the one of the table."""
    for file in house.source.values():
        if not file.text.strip():
            continue  # an empty __init__.py
        floor, said = floor_of(file.module), _FLOOR_LINE.search(file.docstring)
        if not file.docstring:
            yield f'{file.path}:1: has no docstring; say in one sentence what lives here, then "Floor {floor}."'
        elif said is None:
            yield f'{file.path}:1: the docstring does not say "Floor {floor}."'
        elif floor is not None and int(said[1]) != floor:
            yield f'{file.path}:1: the docstring says "Floor {said[1]}", the table says {floor}'


def check_unfinished(house: House) -> Iterator[str]:
    """No mark of unfinished work: finish it, or file an issue."""
    yield from _lines_with(house, UNFINISHED, "finish it, or open an issue and say what is missing in plain words")


def check_machine_paths(house: House) -> Iterator[str]:
    """No absolute path of somebody's home or work directory."""
    yield from _lines_with(house, MACHINE_PATH, "write it relative to the file or the project, or use a made-up /srv/…")


def check_registries(house: House) -> Iterator[str]:
    """No package registry by address: which one is used is the machine's business."""
    yield from _lines_with(house, REGISTRY, "leave the choice of a registry to the machine's own configuration")


def _lines_with(house: House, pattern: re.Pattern[str], instead: str) -> Iterator[str]:
    for path, text in house.texts():
        if path == "tests/house/test_shape.py" or not pattern.search(text):
            continue  # that one feeds these checks
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                yield f"{path}:{number}: contains {match[0]!r}; {instead}"
