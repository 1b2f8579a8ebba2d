import pytest

from tests.house import calls
from tests.house.conftest import Plant


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("import time\ntime.time()", "World.clock"),
        ("import time as t\nclock = t.monotonic", "World.clock"),
        ("from time import monotonic_ns", "World.clock"),
        ("from datetime import datetime\ndatetime.now()", "World.clock"),
        ("import random", "seed"),
        ("from random import Random", "seed"),
        ("import os\nos.urandom(8)", "seed"),
        ("import uuid", "seed"),
        ("import asyncio\nasyncio.create_task(x())", "TaskScope"),
        ("from asyncio import ensure_future", "TaskScope"),
        ("import asyncio\nasyncio.get_running_loop().create_task(x())", "TaskScope"),
        ("class A:\n    def f(self):\n        self._loop.create_task(x())", "TaskScope"),
        ("print('x')", "face"),
        ("from time import sleep", "blocks"),
    ],
)
def test_a_banned_call_is_told_with_its_replacement(plant: Plant, text: str, instead: str) -> None:
    complaints = list(calls.check_calls(plant({"engine/runtime/x.py": text + "\n"})))
    assert len(complaints) == 1
    assert instead in complaints[0]


def test_files_that_own_the_real_thing_may(plant: Plant) -> None:
    house = plant(
        {
            "engine/runtime/real_world.py": "import time, uuid, random\ntime.time()\n",
            "engine/cli/run.py": "print('x')\n",
            "engine/jobs/guard.py": "import time\ntime.sleep(1)\n",
            "engine/base/tasks.py": "import asyncio\nasyncio.create_task(x())\n",
        }
    )
    assert not list(calls.check_calls(house))


def test_an_exception_is_for_its_own_rule_only(plant: Plant) -> None:
    house = plant({"engine/base/tasks.py": "import time\ntime.time()\n"})
    assert len(list(calls.check_calls(house))) == 1


def test_an_exception_without_a_file_is_told(plant: Plant) -> None:
    house = plant({"engine/base/clock.py": "", "engine/__main__.py": ""})
    assert list(calls.check_allowed_files(house)) == [
        "tests/house/calls.py:1: rule task allows engine/base/tasks.py, which does not exist; remove it"
    ]


def test_every_exception_has_a_reason() -> None:
    assert all(reason for rule in calls.RULES for reason in rule.allowed.values())


def test_ruff_must_not_allow_more(plant: Plant) -> None:
    text = '[tool.ruff.lint.per-file-ignores]\n"engine/base/clock.py" = ["TID251"]\n"engine/web/x.py" = ["TID251"]\n'
    (complaint,) = calls.check_ruff_agrees(plant({"pyproject.toml": text}))
    assert "engine/web/x.py" in complaint


def test_a_test_must_not_wait_for_time(plant: Plant) -> None:
    text = "import asyncio, time\ntime.sleep(1)\nasync def f():\n    await asyncio.sleep(0.1)\n"
    harmless = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    await asyncio.sleep(3600)\n"
    house = plant({"tests/base/test_x.py": text, "tests/acceptance/test_x.py": text, "tests/base/test_y.py": harmless})
    assert [complaint.split(";")[0] for complaint in calls.check_sleep(house)] == [
        "tests/base/test_x.py:2: time.sleep",
        "tests/base/test_x.py:4: asyncio.sleep(0.1)",
    ]
