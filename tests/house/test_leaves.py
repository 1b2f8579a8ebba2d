from tests.house import leaves
from tests.house.conftest import Plant

FORK = 'class Fork(Instruction):\n    keyword = "fork"\n'
JOB = 'class Shell(Job):\n    keyword: ClassVar[str] = "shell"\n'


def test_leaves_that_are_told_of_are_fine(plant: Plant) -> None:
    house = plant(
        {
            "engine/rules/instructions/fork.py": FORK,
            "engine/rules/instructions/__init__.py": "",
            "engine/jobs/shell.py": JOB,
            "engine/jobs/host.py": "class Host: ...\n",
            "docs/instructions.md": "## `fork`\n",
            "docs/jobs.md": "`shell`\n",
        }
    )
    assert not list(leaves.check_leaves(house))


def test_a_leaf_that_the_page_forgets_is_told(plant: Plant) -> None:
    house = plant({"engine/rules/instructions/fork.py": "\n" + FORK, "docs/instructions.md": "a fork without quotes\n"})
    (complaint,) = leaves.check_leaves(house)
    assert complaint.startswith("engine/rules/instructions/fork.py:2: Fork is not told of; add `fork`")


def test_a_page_that_is_missing_is_told_once(plant: Plant) -> None:
    (complaint,) = leaves.check_leaves(plant({"engine/jobs/shell.py": JOB}))
    assert complaint == "docs/jobs.md: does not exist; tell there of each leaf of engine.jobs: `shell`"


def test_a_file_without_a_leaf_and_a_keyword_used_twice_are_told(plant: Plant) -> None:
    house = plant(
        {
            "engine/rules/commands/cancel.py": 'class Cancel(Command):\n    keyword = "cancel"\n',
            "engine/rules/commands/kill.py": 'class Kill(Command):\n    keyword = "cancel"\n',
            "engine/rules/commands/shared.py": "class Shared:\n    keyword: ClassVar[str]\n",
            "docs/commands.md": "`cancel`\n",
        }
    )
    assert [complaint.split(",")[0] for complaint in leaves.check_leaves(house)] == [
        "engine/rules/commands/kill.py:1: keyword 'cancel' belongs to engine/rules/commands/cancel.py already",
        "engine/rules/commands/shared.py:1: no class in it has a `keyword`",
    ]
