"""Which benchmarks there are and in which order a round goes through them.

* A round measures the floors a benchmark stands on beside it; every second round goes backwards.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks import commands, coupled, floors, growth, orders, restart, shells
from tests.benchmarks.measure import Bench, NotThere, Stuck, alternating

Part = Callable[[Bench], None]

PARTS: dict[str, tuple[Part, ...]] = {
    "P1": (
        partial(floors.measure_bare, shape="one"),
        partial(orders.measure_one, function="noop"),
        partial(orders.measure_one, function="noop_sync"),
    ),
    "P2": (partial(floors.measure_bare, shape="chain"), orders.measure_chain),
    "P3": (partial(floors.measure_bare, shape="fork"), orders.measure_fork),
    "P4": (
        partial(shells.measure_guard, kind="shell"),
        partial(shells.measure_engine, kind="shell"),
        partial(shells.measure_guard, kind="command"),
        partial(shells.measure_engine, kind="command"),
        floors.measure_spawns,
    ),
    "P6": (coupled.measure_alone, coupled.measure_coupled),
    "P12": (commands.measure_command,),
}
ONCE: dict[str, Part] = {"P10": growth.measure_growth}
NAMES = ("P1", "P2", "P3", "P4", "P6", "P8", "P10", "P12")


def run(bench: Bench, chosen: Sequence[str]) -> list[str]:
    """Run the chosen benchmarks; returns a sentence for each that could not be measured to its end."""
    faults: dict[str, None] = {}
    states: dict[str, Path] = {}

    def part(act: Callable[[], None], name: str) -> None:
        try:
            act()
        except NotThere as missing:
            bench.note(str(missing))
        except Exception as fault:  # noqa: BLE001 - the other benchmarks go on, and what was found is kept
            faults[f"{name}: {_first(fault)}"] = None

    def fill() -> None:
        states["P8"] = restart.fill(bench)

    if "P8" in chosen:
        part(fill, "P8")
    for number in range(bench.plan.rounds):
        acts: list[Callable[[], None]] = [partial(part, partial(floors.measure_disk, bench), "floors")]
        for name in chosen:
            acts += [partial(part, partial(one, bench), name) for one in PARTS.get(name, ())]
        if "P8" in states:
            acts.append(partial(part, partial(restart.measure_restart, bench, states["P8"]), "P8"))
        alternating(number, *acts)
    for name, once in ONCE.items():
        if name in chosen:
            part(partial(once, bench), name)
    return list(faults)


def _first(fault: BaseException) -> str:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return f"{fault}" if isinstance(fault, Stuck) else f"{type(fault).__name__}: {fault}"
