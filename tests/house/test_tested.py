import pytest

from tests.house import tested
from tests.house.conftest import Plant


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("engine/journal/feed.py", "tests/journal/test_feed.py"),
        ("engine/rules/instructions/fork.py", "tests/rules/instructions/test_fork.py"),
        ("engine/ports.py", "tests/test_ports.py"),
        ("engine/__main__.py", "tests/test_main.py"),
        ("engine/__init__.py", "tests/test_engine.py"),
        ("engine/cli/__init__.py", "tests/cli/test_cli.py"),
        ("engine/rules/instructions/try_.py", "tests/rules/instructions/test_try.py"),
        ("actors/agent.py", "tests/actors/test_agent.py"),
    ],
)
def test_the_mirror(source: str, test: str) -> None:
    assert tested.mirror_of(source) == test


def test_a_file_without_a_test_is_told(plant: Plant) -> None:
    house = plant(
        {
            "engine/base/__init__.py": '"""The ground. Floor 0."""\n',
            "engine/base/mirrored.py": "",
            "tests/base/test_mirrored.py": "def test_x(): ...\n",
            "engine/base/named.py": "",
            "engine/base/named_too.py": "",
            "tests/base/test_names.py": (
                '"""Names.\n\nTests: engine/base/named.py, engine/base/named_too.py\n"""\ndef test_x(): ...\n'
            ),
            "engine/base/hollow.py": "",
            "tests/base/test_hollow.py": "",
            "engine/base/bare.py": "",
        }
    )
    assert [complaint.split(";")[0] for complaint in tested.check_tested(house)] == [
        "engine/base/bare.py:1: has no test",
        "engine/base/hollow.py:1: has no test",
    ]


def test_a_package_with_code_needs_a_test(plant: Plant) -> None:
    (complaint,) = tested.check_tested(plant({"engine/cli/__init__.py": "def main(): ...\n"}))
    assert "write tests/cli/test_cli.py" in complaint


def test_a_stale_line_is_told(plant: Plant) -> None:
    house = plant({"tests/test_x.py": '"""X.\n\nTests: engine/base/gone.py\n"""\ndef test_x(): ...\n'})
    (complaint,) = tested.check_tested(house)
    assert "says `Tests: engine/base/gone.py`, which does not exist" in complaint


def test_a_module_that_nobody_uses_is_told(plant: Plant) -> None:
    house = plant(
        {
            "pyproject.toml": '[project.scripts]\nx = "engine.base.script:main"\n',
            "engine/__main__.py": "import engine.base.used\n",
            "engine/base/used.py": "",
            "engine/base/lazy.py": "",
            "engine/__init__.py": "NAMES = {'X': 'engine.base.lazy:X'}\n",
            "engine/base/script.py": "",
            "engine/base/shown.py": "",
            "examples/01/x.py": "from engine.base.shown import x\n",
            "engine/rules/commands/cancel.py": "",
            "engine/base/unused.py": "",
            "tests/base/test_unused.py": "import engine.base.unused\n",
        }
    )
    (complaint,) = tested.check_used(house)
    assert complaint.startswith("engine/base/unused.py:1: nobody imports it")
