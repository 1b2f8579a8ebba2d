from tests.house.conftest import Plant
from tests.house.order_states import HEAD, order_states_page

ORDER = """
class OrderState(enum.StrEnum):
    FRESH = "fresh"  # new
    READY = "ready"
    SUSPENDED = "suspended"
    WAITING = "waiting"
    FAILED = "failed"

TERMINAL = frozenset({OrderState.FAILED})
LIVE = tuple(state for state in OrderState if state not in TERMINAL)
_S = OrderState
TRANSITIONS: dict[str, tuple] = {
    "OrderStarted": ((_S.FRESH,), _S.READY),
    "OrderMoved": ((_S.READY, _S.WAITING), _S.READY),
    "OrderMarked": (LIVE, None),
    "OrderBroken": (LIVE, _S.FAILED),
    "OrderResumed": ((_S.SUSPENDED, _S.FAILED), None),
}
"""


def test_states_picture_and_table(plant: Plant) -> None:
    event = 'class OrderStarted(Event):\n    """It\n    began."""\n'
    page = order_states_page(plant({"engine/model/order.py": ORDER, "engine/model/event.py": event}))
    assert "| `fresh` | new | yes |\n" in page
    assert "| `failed` | ended by a failure that nobody caught | no, but can be resumed |\n" in page
    assert (
        "    fresh --> ready: OrderStarted\n    waiting --> ready: OrderMoved\n    live --> failed: OrderBroken\n"
        in page
    )
    assert "ready --> ready" not in page
    assert "    suspended --> waiting: OrderResumed\n" in page
    assert "    failed --> [*]\n" in page
    assert "| `OrderStarted` | fresh | ready | It began. |\n" in page
    assert "| `OrderMarked` | any that lives | as it is |  |\n" in page
    assert "| `OrderResumed` | suspended, failed | where it was: fresh, waiting, ready |  |\n" in page


def test_without_the_table_there_is_only_the_head(plant: Plant) -> None:
    assert order_states_page(plant({})) == HEAD
