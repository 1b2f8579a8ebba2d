"""Recall: an engine that remembers what had not ended when it was opened. Floor 11.

* What was left is taken from the recovered state before the controller takes its first turn: jobs outlive us, and an
  order may end in that very turn, so a controller that runs can not be asked.
"""

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import msgspec

from actors.controller import Controller
from engine.base.ids import START, Cursor, OrderId
from engine.embed import Engine
from engine.model.order import Order
from engine.ports import World
from engine.rules.controller_state import ControllerState


class Unfinished(msgspec.Struct, frozen=True):
    """What had not ended when an engine was opened, as its journal said before anything went on.

    `cursor`: behind the last record from before; whatever comes behind it happened in this opening.
    `orders`: the root orders that had not ended, with all their branches, parents first, as they were at the cursor.
    """

    cursor: Cursor = START
    orders: tuple[Order, ...] = ()

    @property
    def roots(self) -> list[Order]:
        """The orders without the branches, in the order in which they were added."""
        return [order for order in self.orders if order.parent is None]

    def family(self, root: str) -> list[Order]:
        """Return a root order and all its branches, parents first; nothing when it had ended."""
        return _families(self.orders, lambda order: order.id == root)


class RecallingEngine(Engine):
    """An embedded engine whose `unfinished` is set once it is open."""

    unfinished = Unfinished()
    _recalled = False

    async def open(self) -> None:
        """Open the state folder, remember what was left, start everything; raises as Engine.open does."""
        self._recalled = False
        await super().open()

    async def _boot_controller(self, world: World, **options: Any) -> Controller:
        return await super()._boot_controller(world, on_recovered=self._recall, **options)

    def _recall(self, state: ControllerState, cursor: Cursor) -> None:
        if self._recalled:  # a controller that is booted again goes on within the same opening
            return
        self._recalled = True
        left = _families(state.orders.values(), lambda order: order.parent is None and not order.is_terminal)
        self.unfinished = Unfinished(cursor, tuple(copy(order) for order in left))


def _families(orders: Iterable[Order], is_root: Callable[[Order], bool]) -> list[Order]:
    """Return the chosen root orders and all below them; a branch comes behind its parent, as it was added later."""
    found: dict[OrderId, Order] = {}
    for order in orders:
        if order.parent in found or is_root(order):
            found[order.id] = order
    return list(found.values())
