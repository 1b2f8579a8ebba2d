import pytest

from tests.house import names
from tests.house.conftest import Plant


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("class OrderManager: ...", "manager"),
        ("def event_handler(): ...", "handler"),
        ("def f(data): ...", "data"),
        ("f = lambda info: info", "info"),
        ("def f(*, task): ...", "task"),
        ("def f(*misc): ...", "misc"),
        ("class X:\n    user_data: bytes", "data"),
        ("class HTTPService: ...", "service"),
        ("async def load_utils(): ...", "util"),
    ],
)
def test_an_empty_word_is_told_with_what_to_say_instead(plant: Plant, text: str, word: str) -> None:
    (complaint,) = names.check_names(plant({"engine/base/x.py": text + "\n"}))
    assert f"contains the word {word!r}; {names.INSTEAD[word]}" in complaint


@pytest.mark.parametrize("path", ["engine/base/helpers.py", "engine/base/task_queue.py", "tests/base/test_utils.py"])
def test_module_names_count(plant: Plant, path: str) -> None:
    (complaint,) = names.check_names(plant({path: ""}))
    assert complaint.startswith(f"{path}:1: module ")


def test_words_that_only_look_alike_are_fine(plant: Plant) -> None:
    text = "class Database: ...\ndef information(metadata, handle, commonly, managed): ...\n"
    assert not list(names.check_names(plant({"engine/base/x.py": text})))


def test_asyncio_tasks_and_imposed_names_are_fine(plant: Plant) -> None:
    text = (
        "def f(task: 'asyncio.Task[None]', tasks: TaskScope): ...\n"
        "class P:\n"
        "    def data_received(self, data: bytes): ...\n"
        "    def call_exception_handler(self, context): ...\n"
    )
    assert not list(
        names.check_names(plant({"engine/base/x.py": text, "engine/base/tasks.py": "class TaskScope: ..."}))
    )
