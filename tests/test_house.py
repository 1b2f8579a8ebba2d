"""The house stands: floors, sizes, names, calls, documents. Each test is one rule; the message says what to do.

The rules live in tests/house/, and tests/house/test_*.py feeds each of them a bad tree to see it complain.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.house import calls, catalogue, floors, leaves, names, shape, skeletons, tested
from tests.house.tree import House, our_house


@pytest.fixture(scope="session")
def house() -> House:
    """The project's files, parsed once."""
    return our_house()


RULES: dict[str, Callable[[House], Iterator[str]]] = {
    "imports go down the floors": floors.check_floors,
    "no import cycle": floors.check_cycles,
    "no actor imports another": floors.check_siblings,
    "packages keep away from what the design keeps from them": floors.check_forbidden,
    "the rules are pure": floors.check_pure,
    "the guard stands alone": floors.check_guard,
    "foreign imports are declared": floors.check_declared,
    "ARCHITECTURE.md prints the floors": floors.check_table,
    "files are short": shape.check_file_sizes,
    "functions are short": shape.check_function_sizes,
    "docstrings name the floor": shape.check_floor_lines,
    "nothing is unfinished": shape.check_unfinished,
    "no path of a machine": shape.check_machine_paths,
    "no address of a registry": shape.check_registries,
    "names say something": names.check_names,
    "banned calls": calls.check_calls,
    "exceptions to banned calls exist": calls.check_allowed_files,
    "ruff and the house allow the same files": calls.check_ruff_agrees,
    "tests do not sleep": calls.check_sleep,
    "every file is tested": tested.check_tested,
    "every module is used": tested.check_used,
    "leaves are registered and told of": leaves.check_leaves,
    "problems are declared well": catalogue.check_problems,
    "written pages are up to date": catalogue.check_pages,
    "the skeletons of CONTRIBUTING.md fit": skeletons.check_skeletons,
}


def test_everything_can_be_read(house: House) -> None:
    assert not house.broken, "\n".join(house.broken)


@pytest.mark.parametrize("rule", RULES)
def test_rule(house: House, rule: str) -> None:
    complaints = sorted(set(RULES[rule](house)))
    if complaints:
        pytest.fail(f"{len(complaints)} × {rule}:\n" + "\n".join(complaints), pytrace=False)
