import pytest

from tests.house import floors
from tests.house.conftest import Plant


def test_an_import_upwards_is_told_with_both_floors(plant: Plant) -> None:
    house = plant({"engine/base/x.py": "\nfrom engine.model.order import Order\n", "engine/model/order.py": ""})
    (complaint,) = floors.check_floors(house)
    assert complaint.startswith("engine/base/x.py:2: imports engine.model.order (floor 2) from floor 0")


@pytest.mark.parametrize(
    "text",
    [
        "import engine.journal.store",
        "from engine.journal import store",
        "from ..journal import store",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from engine.journal.store import Store",
        "def f():\n    import engine.journal.store",
        "import importlib\nimportlib.import_module('engine.journal.store')",
    ],
)
def test_a_sideways_import_is_refused_however_it_is_written(plant: Plant, text: str) -> None:
    house = plant({"engine/jobs/x.py": text, "engine/journal/store.py": "", "engine/jobs/__init__.py": ""})
    assert len(list(floors.check_floors(house))) == 1


def test_downwards_and_inside_the_package_is_allowed(plant: Plant) -> None:
    house = plant(
        {
            "engine/model/order.py": "from engine.base.ids import A\nfrom engine.model import job\nimport msgspec\n",
            "engine/model/job.py": "",
            "engine/base/ids.py": "",
        }
    )
    assert not list(floors.check_floors(house))


def test_a_lower_package_that_does_not_exist_yet_is_no_fault(plant: Plant) -> None:
    house = plant({"engine/__init__.py": "", "actors/agent.py": "from engine.runtime.loop import Loop\n"})
    assert not list(floors.check_floors(house))


def test_the_face_itself_is_the_top_floor(plant: Plant) -> None:
    house = plant({"engine/__init__.py": "", "engine/cli/run.py": "from engine import Engine\n"})
    (complaint,) = floors.check_floors(house)
    assert "imports engine (floor 12) from floor 11" in complaint


def test_a_module_outside_the_table_is_told(plant: Plant) -> None:
    house = plant({"engine/attic.py": "", "engine/cli/x.py": "import engine.attic\n"})
    assert sorted(complaint.split(";")[0] for complaint in floors.check_floors(house)) == [
        "engine/attic.py:1: is on no floor",
        "engine/cli/x.py:1: imports engine.attic, which is on no floor",
    ]


def test_a_cycle_inside_a_package_is_told_once_with_its_lines(plant: Plant) -> None:
    house = plant(
        {
            "engine/model/a.py": "from engine.model.b import B\n",
            "engine/model/b.py": "\ndef f():\n    from engine.model import c\n",
            "engine/model/c.py": "import engine.model.a\n",
            "engine/model/d.py": "import engine.model.a\n",
        }
    )
    (complaint,) = floors.check_cycles(house)
    for step in ("a.py:1 imports engine.model.b", "b.py:3 imports engine.model.c", "c.py:1 imports engine.model.a"):
        assert step in complaint


def test_the_implicit_import_of_a_parent_is_no_cycle(plant: Plant) -> None:
    house = plant({"engine/model/__init__.py": "from engine.model.a import A\n", "engine/model/a.py": ""})
    assert not list(floors.check_cycles(house))


def test_actors_are_strangers_to_each_other(plant: Plant) -> None:
    house = plant(
        {
            "actors/agent/loop.py": "from actors.agent import links\nfrom actors.controller import Controller\n",
            "actors/agent/links.py": "",
            "actors/controller.py": "",
        }
    )
    (complaint,) = floors.check_siblings(house)
    assert complaint.startswith("actors/agent/loop.py:2: actor agent imports actor controller")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("engine/runtime/x.py", "import engine.model.order"),
        ("engine/runtime/x.py", "from engine.rules import flow"),
        ("engine/journal/x.py", "from engine.model.event import Event"),
        ("transports/x.py", "from engine.model.event import Event"),
        ("actors/x.py", "import transports.memory"),
        ("actors/x.py", "from socket import socket"),
    ],
)
def test_what_the_design_keeps_away_is_kept_away(plant: Plant, path: str, text: str) -> None:
    house = plant({path: text + "\n", "engine/model/event.py": "", "transports/memory.py": ""})
    (complaint,) = floors.check_forbidden(house)
    assert complaint.startswith(f"{path}:1: ")


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "from time import time",
        "import random",
        "def f():\n    import os",
        "import logging",
        "from pathlib import Path",
        "import threading",
        "import aiosqlite",
        "async def decide(): ...",
        "open('x')",
    ],
)
def test_the_rules_touch_nothing(plant: Plant, text: str) -> None:
    assert len(list(floors.check_pure(plant({"engine/rules/x.py": text + "\n"})))) == 1


def test_the_rules_may_compute(plant: Plant) -> None:
    text = "import zoneinfo, re, msgspec\nfrom datetime import datetime\nfrom engine.model import order\n"
    assert not list(floors.check_pure(plant({"engine/rules/x.py": text})))


@pytest.mark.parametrize("text", ["import msgspec", "from engine.base import ids", "import yaml"])
def test_the_guard_stands_alone(plant: Plant, text: str) -> None:
    (complaint,) = floors.check_guard(plant({"engine/jobs/guard.py": f"import os\n{text}\n"}))
    assert complaint.startswith("engine/jobs/guard.py:2: ")


def test_a_foreign_import_must_be_declared(plant: Plant) -> None:
    house = plant(
        {
            "pyproject.toml": '[project]\ndependencies = ["PyYAML>=6"]\noptional-dependencies.web = ["aiohttp[x]"]\n',
            "engine/base/x.py": "import os\nimport yaml\nimport aiohttp\nimport numpy.linalg\n",
        }
    )
    (complaint,) = floors.check_declared(house)
    assert complaint.startswith("engine/base/x.py:4: imports numpy,")


def _page(rows: str) -> str:
    return f"# Architecture\n\n| floor | packages | notes |\n|---|---|---|\n{rows}\n\nText.\n| 99 | `not.this` |\n"


def test_the_printed_table_may_be_missing_but_not_wrong(plant: Plant) -> None:
    rows = [
        (f"| {floor} | {', '.join(f'`{name}`' for name in packages)} | why |").replace(
            "engine.__main__", "engine/__main__.py"
        )
        for floor, packages in floors.FLOORS
    ]
    assert not list(floors.check_table(plant({})))
    assert not list(floors.check_table(plant({"ARCHITECTURE.md": _page("\n".join(rows))})))
    (complaint,) = floors.check_table(plant({"ARCHITECTURE.md": _page("\n".join(rows[:-1]))}))
    assert "floor 0 holds nothing, but FLOORS" in complaint
    (complaint,) = floors.check_table(plant({"ARCHITECTURE.md": "nothing"}))
    assert "has no table" in complaint


def test_floors_are_numbered_without_a_gap() -> None:
    assert [floor for floor, _ in floors.FLOORS] == list(range(len(floors.FLOORS) - 1, -1, -1))
