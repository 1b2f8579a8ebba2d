"""A user's own workflow, tested under kills, cuts and lost messages: nobody is paid twice."""

from engine import Workflow, fork_list, job, parameter, retry
from engine.simulation.simulate import Cluster, Duration, Faults, Simulation, simulate

# `pay` must not run twice for one person, so a lost attempt is held for somebody to decide (the default of on_lost).
# `mail` may be sent twice, so it is simply run again.
PAYROLL = Workflow(
    "payroll",
    retry([job("totals", shell="compute-totals", on_lost="rerun")], times=3, delays=["10s"]),
    fork_list(
        "people",
        "person",
        [
            job("pay", shell="transfer", environment={"PERSON": "${person}"}),
            job("mail", shell="send-mail", environment={"PERSON": "${person}"}, on_lost="rerun"),
        ],
    ),
    parameters={"people": parameter("list")},
)

JOBS = {
    "totals": Duration(ms_min=500, ms_max=2_000, fail_rate=0.2),
    "pay": Duration(ms_min=100, ms_max=5_000),
    "mail": Duration(ms_min=50, ms_max=300),
}


@simulate(seeds=10, cluster=Cluster(agents={"local": 2}), jobs=JOBS, faults=Faults(seconds=15.0))
async def test_nobody_is_paid_twice(sim: Simulation) -> None:
    def paying() -> list[str]:
        return [group.order for group in sim.running("pay")]

    sim.always(lambda: len(paying()) == len(set(paying())), "a person is paid by one process at a time")
    order = await sim.add_order(PAYROLL, {"people": ["ann", "bob", "cleo"]})
    await sim.sleep(15)
    await sim.heal()
    await sim.run_until_quiet()
    paid = [group.order for group in sim.processes("pay")]
    assert len(paid) == len(set(paid)), f"paid twice: {paid}"
    sim.sometimes("the order finished in spite of the faults", order.state == "finished")
