"""Orders through their handles: added, suspended, resumed, cancelled, waited for; many at once; unknown ones."""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, OrderFailed, Refused, Workflow, job, parameter, sleep
from engine.base.ids import OrderId
from engine.model.event import AttemptAssigned, AttemptStarted, OrderAdded, OrderFinished, OrderSuspended
from engine.model.order import Order, OrderState
from engine.model.outcome import CANCELLED, Outcome, OutcomeKind, failed
from engine.model.query import ListOrders
from engine.model.workflow import WorkflowId
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.delete_order import DeleteOrder
from engine.runtime.real_clock import RealClock
from tests.embed.engines import call, node, restarts, run, seen, shell

TOMORROW_MS = RealClock().now_ms() + 86_400_000

ECHO = Workflow("echo", job("job", python=lambda value: {"value": value}, arguments={"value": "${value}"}),
                parameters={"value": parameter("string", required=False, default="")})  # fmt: skip


async def test_values_nested_without_end_are_refused_in_a_bulk_too(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    async with Engine(tmp_path) as engine:
        await engine.deploy(ECHO)
        with pytest.raises(Refused) as refused:
            await engine.add_orders([AddOrder("deep", "echo", {"value": nested})])
        assert refused.value.problem.code == "NotKeepable"


async def test_an_order_stands_still_and_goes_on(tmp_path: Path) -> None:
    gate = threading.Event()
    workflow = Workflow("w", job("first", python=gate.wait), job("second", python=lambda: {"done": 1}))
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(workflow)
        await seen(stream, AttemptAssigned)
        await order.suspend()
        gate.set()
        await seen(stream, OrderSuspended)
        assert ((await order.view()).state, await order.obstacle()) == (
            OrderState.SUSPENDED,
            "it is suspended; resume it to go on",
        )
        await order.resume()
        assert (await order.result())["done"] == 1


async def test_a_cancelled_order_raises_for_its_result(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(Workflow("w", sleep("1h")))
        await seen(stream, OrderAdded)
        waiting = asyncio.ensure_future(order.result())
        await order.cancel()
        with pytest.raises(OrderFailed, match="cancelled") as raised:
            await waiting
        assert raised.value.state is OrderState.CANCELLED
        with pytest.raises(Refused, match="has ended"):
            await order.cancel()


async def test_a_running_process_is_killed(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(shell("exec sleep 1000", kill_delay="10ms"))
        await seen(stream, AttemptStarted)
        await order.cancel(kill=True)
        assert (await order.ended()).state is OrderState.CANCELLED


async def test_everything_unknown_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        nobody = engine.order("nobody")
        for ask in (nobody.view(), nobody.obstacle(), nobody.ended(), nobody.result(), nobody.outcome(),
                    nobody.suspend(), nobody.resume(), nobody.cancel(), nobody.release("rerun")):  # fmt: skip
            with pytest.raises(Refused, match="There is no order 'nobody'"):
                await ask
        for name in ("none", "no such!", "", "\ud800", "x" * 5_000):
            with pytest.raises(Refused):
                await engine.add_order(name)
        with pytest.raises(Refused, match="no workflow 'none'"):
            await engine.client.workflow("none")
        with pytest.raises(Refused, match="not by 'maybe'"):
            await nobody.release("maybe")
        assert restarts(engine) == 0


@pytest.mark.parametrize("order_id", ["", " ", "a b", "a/b", "a|b", "../x", "\ud800", "a\0", "é" * 251, "-x", "\n"])
async def test_an_odd_id_is_refused_and_not_replaced_by_another(tmp_path: Path, order_id: str) -> None:
    async with Engine(tmp_path) as engine:
        with pytest.raises(Refused):
            await engine.add_order(shell("true"), order_id=order_id)
        with pytest.raises(Refused):
            await engine.order(order_id).view()
        assert (await engine.client.orders()).orders == ()


@pytest.mark.parametrize("order_id", ["é", "日本", "a.b:c#d@e+f=g,h-i", "x" * 250, "..", "1"])
async def test_an_allowed_odd_id_runs_a_process(tmp_path: Path, order_id: str) -> None:
    if not order_id[0].isalnum():
        pytest.skip("an id begins with a letter or digit")
    async with Engine(tmp_path) as engine:
        text = 'test "$UNDERSTUDY_ORDER" != "" && echo "id=$UNDERSTUDY_ORDER" > "$UNDERSTUDY_RESULT"'
        order = await engine.add_order(shell(text), order_id=order_id)
        assert await order.result() == {"id": order_id}


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, 10**30, "\ud800", float("nan"), float("inf"), b"raw", object(), {1: 2}, [[], {"\udfff": 1}]],
)
async def test_a_variable_that_can_not_be_kept_is_refused(tmp_path: Path, value: Any) -> None:
    async with Engine(tmp_path) as engine:
        await engine.deploy(ECHO)
        with pytest.raises(Refused):
            await engine.add_order("echo", {"value": value})
        with pytest.raises(Refused):
            await engine.add_orders([AddOrder("x", "echo", {"value": value})])
        with pytest.raises(Refused):
            await engine.add_order("echo", {"\ud800": 1})
        assert (await engine.client.orders()).orders == ()
        assert restarts(engine) == 0


@pytest.mark.parametrize("size_bytes", [(1 << 20) + 1, 9 << 20, 17 << 20])
async def test_variables_beyond_a_mebibyte_are_refused(tmp_path: Path, size_bytes: int) -> None:
    async with Engine(tmp_path) as engine:
        with pytest.raises(Refused, match="is the most"):
            await engine.add_order(ECHO, {"value": "x" * size_bytes})
        fits = await engine.add_order(ECHO, {"value": "x" * 1_000_000})
        assert len((await fits.result())["value"]) == 1_000_000  # type: ignore[arg-type]
        assert restarts(engine) == 0


async def test_pages_of_large_orders_are_cut(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.deploy(ECHO)
        orders = [AddOrder(f"o{n:02}", "echo", {"value": "x" * 900_000}, scheduled_ms=TOMORROW_MS) for n in range(20)]
        for order in orders:
            await engine.add_orders([order])
        found: list[str] = []
        more = True
        while more:
            page = await engine.client.orders(ListOrders(OrderId(found[-1]) if found else None))
            found += [view.order.id for view in page.orders]
            more = page.more
        assert found == [order.order for order in orders]
        assert restarts(engine) == 0


async def test_what_templates_multiply_ends_no_node(tmp_path: Path) -> None:
    many = {f"v{number}": "${value}" for number in range(20)}
    into_job = Workflow("a", job("job", python=lambda **_: None, arguments=many), parameters={"value": "string"})
    into_environment = Workflow("b", job("job", shell="true", environment=many), parameters={"value": "string"})
    async with asyncio.timeout(50), Engine(tmp_path) as engine:
        for workflow in (into_job, into_environment):
            order = await engine.add_order(workflow, {"value": "x" * 1_000_000})
            assert (await order.ended()).state is OrderState.FAILED, workflow.name
        assert await (await engine.add_order(ECHO, {"value": "y"})).result() == {"value": "y"}
        assert restarts(engine) == 0


async def test_results_beyond_a_record_end_no_node(tmp_path: Path) -> None:
    many = {f"v{number}": "${value}" for number in range(20)}
    ended = await run(tmp_path, Workflow("w", parameters={"value": "string"}, results=many), {"value": "x" * 1_000_000})
    assert ended.state in (OrderState.FAILED, OrderState.BROKEN)


async def test_a_command_that_just_fits_into_a_record_ends_no_node(tmp_path: Path) -> None:
    async with asyncio.timeout(60), Engine(tmp_path) as engine:
        await engine.deploy(ECHO)
        for length in range(8_345, 8_200, -1):  # the first that is not refused is nearly as long as a record may be
            orders = [AddOrder(f"o{n:03}", "echo", {"value": "x" * length}) for n in range(1_000)]
            with contextlib.suppress(Refused):
                await engine.add_orders(orders)
                break
        assert restarts(engine) == 0


async def test_ten_thousand_orders_at_once_are_all_answered(tmp_path: Path) -> None:
    count = 3_000  # of each way to add; the bound of parallel queries and of a page are far below
    async with asyncio.timeout(100), Engine(tmp_path) as engine:
        await engine.deploy(Workflow("nothing", parameters={"n": "integer"}))
        single = await asyncio.gather(*(engine.add_order("nothing", {"n": n}) for n in range(count)))
        parts = [[AddOrder(f"b{n}", "nothing", {"n": n}) for n in range(p, p + 1_000)] for p in range(0, count, 1_000)]
        bulk = [one for part in await asyncio.gather(*map(engine.add_orders, parts)) for one in part]
        results = await asyncio.gather(*(one.result() for one in (*single, *bulk)))
        assert [one["n"] for one in results] == [*range(count), *range(count)]
        assert restarts(engine) == 0


async def test_an_order_that_ends_before_while_and_after_it_is_waited_for(tmp_path: Path) -> None:
    gate = threading.Event()
    async with Engine(tmp_path) as engine:
        stream = engine.events()
        order = await engine.add_order(call(gate.wait))
        early = [asyncio.ensure_future(order.ended()) for _ in range(3)]
        await seen(stream, AttemptAssigned)
        early[0].cancel()
        late = asyncio.ensure_future(order.ended())
        gate.set()
        await seen(stream, OrderFinished)
        for waiting in (*early[1:], late, order.ended()):
            assert (await waiting).state is OrderState.FINISHED
        await engine.client.command(DeleteOrder(order.id))
        with pytest.raises(Refused, match="no order"):
            await order.ended()
        assert engine.client._watchers == {}


async def test_orders_keep_the_version_they_began_with(tmp_path: Path) -> None:
    gate = threading.Event()

    def version(number: int) -> Any:
        return Workflow("w", job("wait", python=gate.wait), job("say", shell=f'echo v={number} > "$UNDERSTUDY_RESULT"'))

    async with Engine(tmp_path) as engine:
        stream = engine.events()
        old = await engine.add_order(version(1))
        await seen(stream, AttemptAssigned)
        new = await engine.add_order(version(2))
        by_name = await engine.add_order("w")
        gate.set()
        assert [(await one.result())["v"] for one in (old, new, by_name)] == ["1", "2", "2"]


async def test_a_job_that_can_not_be_started_fails_its_order(tmp_path: Path) -> None:
    for workflow in (
        shell("true", directory=str(tmp_path / "missing")),
        Workflow("nul", job("job", command=["echo", "a\0b"])),
        shell("true", "nul", environment={"A": "x\0y"}),
        Workflow("none", job("job", command=["/no/such/program"])),
        Workflow("big", job("job", shell="true", environment={"A": "${x}"}), parameters={"x": "string"}),
    ):
        ended = await run(tmp_path / "s", workflow, {"x": "x" * 300_000} if workflow.name == "big" else {})
        assert ended.state is OrderState.FAILED
        expected = "holds the character NUL" if workflow.name == "nul" else "could not be started"
        assert expected in str(ended.outcome)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ('mkdir "$UNDERSTUDY_RESULT"', "can not be read"),
        ('mkfifo "$UNDERSTUDY_RESULT"', "no ordinary file"),
        ('ln -s /dev/zero "$UNDERSTUDY_RESULT"', "no ordinary file"),
        ('printf "a=\\377" > "$UNDERSTUDY_RESULT"', "not UTF-8"),
        ('head -c 1100000 /dev/zero > "$UNDERSTUDY_RESULT"', "larger than 1048576"),
        ('printf \'{"a": 1\' > "$UNDERSTUDY_RESULT"', "not a JSON object"),
        ('echo nothing > "$UNDERSTUDY_RESULT"', "not name=value"),
    ],
)
async def test_a_result_file_of_any_kind_ends_no_node(tmp_path: Path, left: str, message: str) -> None:
    ended = await run(tmp_path / "s", shell(left))
    assert ended.state is OrderState.FAILED
    assert message in str(ended.outcome)
    ended = await run(tmp_path / "s", shell(f"{left}; exit 7", name="fails"))
    assert (ended.outcome and ended.outcome.return_code) == 7


async def test_large_results_are_taken(tmp_path: Path) -> None:
    text = 'awk \'BEGIN { for (n = 0; n < 60000; n++) print "v" n "=" n }\' > "$UNDERSTUDY_RESULT"'
    ended = await run(tmp_path, shell(text))
    assert ended.variables == {f"v{n}": str(n) for n in range(60_000)}


@pytest.mark.parametrize("workflow", [None, 7, b"w", ["w"]])
async def test_what_is_no_workflow_is_refused(tmp_path: Path, workflow: Any) -> None:
    async with Engine(tmp_path) as engine:
        with pytest.raises(Refused, match=r"a Workflow or by its name, not as a (NoneType|int|bytes|list)"):
            await engine.add_order(workflow)


@pytest.mark.parametrize(
    ("state", "outcome", "told"),
    [
        ("failed", failed("no rows", 3), "order o failed with return code 3: no rows"),
        ("failed", failed("in branch x: no rows"), "order o failed: in branch x: no rows"),
        ("failed", Outcome(OutcomeKind.TIMED_OUT, -15), "order o failed: timed out with return code -15"),
        ("cancelled", CANCELLED, "order o cancelled"),
        ("cancelled", None, "order o cancelled"),
        ("cancelled", failed("no"), "order o cancelled: failed: no"),
        ("broken", failed("No rule foresaw it."), "order o broken: No rule foresaw it."),
    ],
)
def test_a_failed_order_says_once_how_it_ended(state: str, outcome: Outcome | None, told: str) -> None:
    order = Order(
        id=OrderId("o"), workflow=WorkflowId("w@1"), added=1, variables={}, state=OrderState(state), outcome=outcome
    )
    assert str(OrderFailed(order)) == told


async def test_the_end_of_an_own_order_is_asked_for_once(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await (await engine.add_order(ECHO, {"value": "1"})).result()  # from here on ends are watched
        asked = node(engine, "controller").reception.statistics()["queries"]
        order = await engine.add_order(ECHO, {"value": "2"})
        assert await order.result() == {"value": "2"}
        assert node(engine, "controller").reception.statistics()["queries"] == asked + 1
        assert await order.result() == {"value": "2"}  # and one whose end was told is asked for
