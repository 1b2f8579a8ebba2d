import pytest

from tests.house import shape
from tests.house.conftest import Plant


def test_a_long_file_is_told_and_a_vendored_one_is_not(plant: Plant) -> None:
    fits, long = "x = 1\n" * shape.FILE_LINES_MAX, "x = 1\n" * (shape.FILE_LINES_MAX + 1)
    files = {"engine/base/fits.py": fits, "tests/test_long.py": long, "engine/web/a.css": long}
    complaints = list(shape.check_file_sizes(plant({**files, "engine/web/vendor/a.js": long})))
    assert [complaint.split(":")[0] for complaint in complaints] == ["tests/test_long.py", "engine/web/a.css"]


def test_a_long_function_is_told(plant: Plant) -> None:
    fits = "def fits():\n" + "    x = 1\n" * (shape.FUNCTION_LINES_MAX - 1)
    long = "class A:\n    async def long(self):\n" + "        x = 1\n" * shape.FUNCTION_LINES_MAX
    (complaint,) = shape.check_function_sizes(plant({"engine/base/x.py": fits + long}))
    assert complaint.startswith(f"engine/base/x.py:{shape.FUNCTION_LINES_MAX + 2}: function long has 71 lines")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n", "has no docstring"),
        ('"""Orders."""\n', 'does not say "Floor 2."'),
        ('"""Orders. Floor 3."""\n', 'says "Floor 3", the table says 2'),
    ],
)
def test_a_docstring_names_its_floor(plant: Plant, text: str, complaint: str) -> None:
    house = plant(
        {"engine/model/x.py": text, "engine/model/good.py": '"""X. Floor 2."""', "engine/model/__init__.py": ""}
    )
    (said,) = shape.check_floor_lines(house)
    assert said.startswith("engine/model/x.py:1: ")
    assert complaint in said


def test_unfinished_work_is_told(plant: Plant) -> None:
    house = plant({"engine/base/x.py": "\n# TODO: more\n", "docs/a.md": "FIXME\n", "docs/b.md": "a todo list\n"})
    assert [one.split(" ")[0] for one in shape.check_unfinished(house)] == ["engine/base/x.py:2:", "docs/a.md:1:"]


def test_a_machine_leaves_no_trace(plant: Plant) -> None:
    house = plant(
        {
            "engine/base/x.py": "path = '/home/ann/x'\n",
            "Makefile": "run:\n\t/root/bin/x\n",
            "docs/a.md": "see ../work/x, https://example.org/home/x and ~/work/x\n",
            "docs/b.md": "pip install --index-url somewhere\n",
        }
    )
    assert [one.split(" ")[0] for one in shape.check_machine_paths(house)] == ["engine/base/x.py:1:", "Makefile:2:"]
    assert [one.split(" ")[0] for one in shape.check_registries(house)] == ["docs/b.md:1:"]
