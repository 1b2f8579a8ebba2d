"""A program under load, to be killed: adds orders, prints what was accepted and what ended. Started by test_kill.py.

python load.py STATE LEDGER FIRST COUNT: adds orders FIRST … FIRST+COUNT-1 (those that exist already are harmless),
says `ready`, then a line for each order accepted and ended, and `done` when all have ended.
"""

import asyncio
import sys
from pathlib import Path

from engine import Engine, Workflow, fork, job, parameter
from engine.model.instruction import Instruction

SCRIPT = """
echo "$UNDERSTUDY_ORDER $UNDERSTUDY_ATTEMPT $UNDERSTUDY_LABEL" >> "$LEDGER"
echo "$STEP=$UNDERSTUDY_ATTEMPT" > "$UNDERSTUDY_RESULT"
"""


def double(number: int) -> dict[str, int]:
    return {"doubled": 2 * number}


def shell(name: str, script: str = SCRIPT) -> Instruction:
    return job(name, shell=script, environment={"LEDGER": "${ledger}", "STEP": name}, timeout="60s")


WORK = Workflow(
    "load",
    shell("first"),
    job("double", python=double, arguments={"number": "${number}"}, on_lost="rerun"),
    fork(x=[shell("left")], y=[shell("right", f"sleep 0.05; {SCRIPT}")]),
    shell("last"),
    parameters={"number": parameter("integer"), "ledger": parameter("string")},
)


async def main(state: str, ledger: str, first: int, count: int) -> None:
    async with Engine(state=state) as engine:
        await engine.deploy(WORK)
        print("ready", flush=True)

        async def one(number: int) -> None:
            order = await engine.add_order("load", {"number": number, "ledger": ledger}, order_id=f"load-{number}")
            print(f"accepted {order.id}", flush=True)
            ended = await order.ended()
            print(f"ended {order.id} {ended.state} {ended.variables.get('doubled')}", flush=True)

        await asyncio.gather(*(one(number) for number in range(first, first + count)))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], str(Path(sys.argv[2]).absolute()), int(sys.argv[3]), int(sys.argv[4])))
