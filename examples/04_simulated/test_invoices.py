"""A workflow with a bank in it, on a pair of controllers: no invoice is charged twice, whatever dies."""

from pathlib import Path

from engine.simulation.simulate import (
    Cluster,
    Drawn,
    Faults,
    JobRun,
    LogNormal,
    Simulation,
    chances,
    simulate,
    workflow_file,
)

INVOICE = workflow_file(Path(__file__).with_name("workflow.yaml"))

JOBS = {
    "write": Drawn(ms=LogNormal(400), return_codes={0: 0.99, 1: 0.01}),
    "mail": Drawn(ms=LogNormal(150)),
}


@simulate(seeds=20, cluster=Cluster(controllers=2, agents={"local": 2}), jobs=JOBS, faults=Faults(seconds=40))
async def test_no_invoice_is_charged_twice(sim: Simulation) -> None:
    booked: dict[str, int] = {}  # what the bank really did; it knows nothing of our orders

    async def charge(run: JobRun) -> dict[str, str]:
        number, chance = run.environment["NUMBER"], chances(run)
        await sim.sleep(chance.uniform(0.2, 3))  # the request travels
        booked[number] = booked.get(number, 0) + 1
        await sim.sleep(chance.uniform(0.1, 2))  # the answer travels; the process may die before it is here
        return {"receipt": f"r-{number}"}

    sim.job("charge", charge)
    sim.always(lambda: max(booked.values(), default=0) <= 1, "an invoice is charged once")

    orders = []
    for number in range(4):
        orders.append(await sim.add_order(INVOICE, {"number": f"2026-{number}"}))
        await sim.sleep(8)
    await sim.heal()
    await sim.run_until_quiet()

    finished = [order for order in orders if order.state == "finished"]
    held = [order for order in orders if order.view.is_held]
    assert all(order.variables["receipt"] for order in finished)
    sim.sometimes("all four invoices were paid", len(finished) == 4)
    sim.sometimes("a charge whose end nobody saw waits for a person", bool(held))
    sim.sometimes("the other controller took over", "pair: failover" in sim.cluster.lookout.sometimes.met)
