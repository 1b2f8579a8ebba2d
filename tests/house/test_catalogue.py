from tests.house import catalogue
from tests.house.conftest import Plant

IMPORT = "from engine.base.problem import problem\n"
UNKNOWN = 'UnknownOrder = problem("UnknownOrder", "There is no order {order}; "\n    "is {id!r} right?")\n'
EVENTS = '''
class Event(msgspec.Struct):
    """All."""
    travels: ClassVar[bool] = False

# --- an order's life ---------------------------------------------------

class OrderEvent(Event):
    """Shared."""
    travels: ClassVar[bool] = True
    order: OrderId
    at_ms: int

class OrderAdded(OrderEvent):
    """An order
    was accepted."""
    workflow: "str | None" = None

class EpochBegan(Event):
    """A node began."""
    epoch: int

class NotAnEvent:
    x: int
'''


def test_problems_are_listed_with_sentence_and_arguments(plant: Plant) -> None:
    page = catalogue.problems_page(plant({"engine/rules/x.py": IMPORT + UNKNOWN}))
    assert "## engine/rules/x.py\n" in page
    assert "| `UnknownOrder` | There is no order {order}; is {id!r} right? | `order`, `id` |\n" in page


def test_a_problem_under_another_name_or_declared_twice_or_hidden_is_told(plant: Plant) -> None:
    house = plant(
        {
            "engine/rules/a.py": IMPORT + 'Gone = problem("UnknownOrder", "No.")\n',
            "engine/rules/b.py": IMPORT + UNKNOWN + 'Empty = problem("Empty", "")\n',
            "engine/rules/c.py": IMPORT
            + 'def f():\n    return problem("Late", "No.")\nText = problem("Text", f"{f}")\n',
        }
    )
    assert sorted(complaint.split(";")[0] for complaint in catalogue.check_problems(house)) == [
        "engine/rules/a.py:2: problem UnknownOrder is assigned to Gone",
        "engine/rules/b.py:2: problem UnknownOrder is declared in engine/rules/a.py:2 already",
        "engine/rules/b.py:4: problem Empty has no sentence",
        "engine/rules/c.py:3: declare a problem at the top of the module, `Late = problem(…)`",
        "engine/rules/c.py:4: write problem(code, sentence) with two plain strings",
    ]


def test_events_are_listed_with_inherited_fields(plant: Plant) -> None:
    page = catalogue.events_page(plant({"engine/model/event.py": EVENTS}))
    assert page.endswith(
        "\n## An order's life\n"
        "\n### OrderAdded\n\nAn order was accepted. *Travels.*\n"
        "\n| field | type |\n|---|---|\n| `order` | `OrderId` |\n| `at_ms` | `int` |\n"
        "| `workflow` | `str \\| None = None` |\n"
        "\n### EpochBegan\n\nA node began.\n"
        "\n| field | type |\n|---|---|\n| `epoch` | `int` |\n"
    )
    assert "NotAnEvent" not in page


def test_a_page_that_is_missing_or_old_is_told_with_its_line(plant: Plant) -> None:
    files = {"engine/rules/x.py": IMPORT + UNKNOWN, "engine/model/event.py": EVENTS}
    house = plant(files)
    assert len(list(catalogue.check_pages(house))) == len(catalogue.PAGES)
    house = plant({path: write(house) for path, write in catalogue.PAGES.items()})
    assert not list(catalogue.check_pages(house))
    (complaint,) = catalogue.check_pages(plant({"engine/rules/x.py": IMPORT + UNKNOWN.replace("There", "Here")}))
    assert complaint.startswith("docs/problems.md:12: is out of date: says '| `UnknownOrder` | There is")
