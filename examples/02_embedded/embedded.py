"""An engine inside a program: ten lines that run a workflow and print its result."""

import asyncio
import sys

from engine import Engine, Workflow, fork, job


def square(number: int) -> dict[str, int]:
    return {"square": number * number}


def total(squares: dict[str, int]) -> dict[str, int]:
    return {"total": sum(squares.values())}


SUM_OF_SQUARES = Workflow(
    "sum_of_squares",
    fork(
        three=[job("square", python=square, arguments={"number": "${3}"})],
        four=[job("square", python=square, arguments={"number": "${4}"})],
        collect=["square"],
    ),
    job("total", python=total, arguments={"squares": "${square}"}),
)


async def main(state: str) -> None:
    async with Engine(state=state) as engine:
        order = await engine.add_order(SUM_OF_SQUARES)
        print(await order.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ".understudy-embedded"))
