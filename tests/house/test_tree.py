from tests.house.conftest import Plant
from tests.house.tree import SOURCE_FOLDERS, Import, our_house


def test_every_form_of_import_is_seen_with_its_line(plant: Plant) -> None:
    house = plant(
        {
            "engine/base/ids.py": "",
            "engine/base/codec.py": "",
            "engine/model/__init__.py": "",
            "engine/model/order.py": (
                "import engine.base.ids as i\n"
                "from engine.base import codec\n"
                "from engine.base.codec import Value\n"
                "from . import job\n"
                "from .job import Job\n"
                "from ..base import ids\n"
                "def f():\n    import engine.base.late\n"
                "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    import engine.model.job\n"
                "hidden = 'engine.base.ids:EventId'\n"
            ),
            "engine/model/job.py": "",
        }
    )
    found = {(target, line) for file, target, line in house.edges if file.module == "engine.model.order"}
    assert found == {
        ("engine.base.ids", 1),
        ("engine.base.codec", 2),
        ("engine.base.codec", 3),
        ("engine.model.job", 4),
        ("engine.model.job", 5),
        ("engine.base.ids", 6),
        ("engine.base.late", 8),
        ("engine.model.job", 11),
        ("engine.base.ids", 12),
    }


def test_a_file_that_is_no_python_is_reported_and_the_rest_is_read(plant: Plant) -> None:
    house = plant({"engine/base/bad.py": "def (", "engine/base/good.py": ""})
    assert list(house.source) == ["engine.base.good"]
    assert len(house.broken) == 1
    assert house.broken[0].startswith("engine/base/bad.py: cannot be read")


def test_aliases_lead_to_the_real_name(plant: Plant) -> None:
    house = plant(
        {
            "engine/base/x.py": (
                "import time as t\nfrom time import monotonic as now\nimport os.path\nfrom datetime import datetime\n"
                "t.time()\nnow()\nos.path.join()\ndatetime.now()\nprint()\nself.loop.time()\nget_loop().time()\n"
            )
        }
    )
    found = {(use.path, use.line) for use in house.source["engine.base.x"].uses}
    assert {
        ("time.time", 5),
        ("time.monotonic", 6),
        ("os.path.join", 7),
        ("datetime.datetime.now", 8),
        ("builtins.print", 9),
        ("<loop>.time", 10),
        ("<loop>.time", 11),
    } <= found


def test_a_name_of_ones_own_is_not_the_builtin(plant: Plant) -> None:
    house = plant({"engine/base/x.py": "def print(line): ...\nprint('x')\n"})
    assert "builtins.print" not in {use.path for use in house.source["engine.base.x"].uses}


def test_our_house_holds_every_folder() -> None:
    assert {file.path.partition("/")[0] for file in our_house().source.values()} == set(SOURCE_FOLDERS)
    assert Import("engine.base.problem.problem", "engine.base.problem", 1).module in our_house().source
