"""Ctrl-C counted. Tests: engine/cli/presses.py"""

import asyncio
import os
import signal

from engine.cli.presses import Presses


async def test_signals_are_counted_and_given_back() -> None:
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    pressed = asyncio.Event()
    with Presses(pressed.set, lambda: None) as presses:
        os.kill(os.getpid(), signal.SIGINT)
        await pressed.wait()
        assert presses.count == 1
        pressed.clear()
        os.kill(os.getpid(), signal.SIGTERM)  # after a first press it adds nothing
        os.kill(os.getpid(), signal.SIGINT)
        await pressed.wait()
        while presses.count < 2:
            await asyncio.sleep(0)
        assert presses.count == 2
    assert signal.getsignal(signal.SIGTERM) == before
    assert not loop.remove_signal_handler(signal.SIGINT)


def test_asking_is_the_first_press_only() -> None:
    said: list[str] = []
    presses = Presses(lambda: said.append("pressed"), lambda: said.append("left"))
    presses.ask()
    presses.ask()
    assert (presses.count, said) == (1, ["pressed"])
    presses.press()
    presses.ask()
    assert (presses.count, said) == (2, ["pressed", "pressed"])
