"""A dialling side of which every byte is in the test's hands."""

from typing import Any

from engine.base.wire import AnyMessage, Beat, Goodbye, Welcome, decode_message, encode_message
from engine.ports import ConnectionClosed
from engine.runtime.framing import Incoming, Outgoing
from tests.runtime.linked import Lower, Wires, hello


class Peer:
    """A dialling side by hand: messages or bytes out, messages in."""

    def __init__(self, wires: Wires, node: str = "peer") -> None:
        self._transport = wires.of(node)
        self._url = wires.url("lower").partition("://")[2]
        self._messages: list[bytes] = []
        self._outgoing = Outgoing(lambda: self._messages.pop(0) if self._messages else None, lambda: None)
        self._incoming = Incoming()
        self.received: list[AnyMessage] = []

    async def dial(self) -> "Peer":
        self.connection = await self._transport.connect(self._url)
        return self

    async def send(self, *messages: object) -> None:
        self._messages += [message if isinstance(message, bytes) else encode_message(message) for message in messages]
        while frames := self._outgoing.gather():
            await self.connection.send(frames)

    async def receive(self) -> AnyMessage:
        """The next message that is no beat."""
        while not self.received:
            for frame in await self.connection.receive():
                whole = self._incoming.take(frame)
                if whole is not None and not isinstance(message := decode_message(whole), Beat):
                    self.received.append(message)
        return self.received.pop(0)

    async def welcome(self, **changes: Any) -> Welcome:
        await self.send(hello(**changes))
        message = await self.receive()
        assert isinstance(message, Welcome)
        return message

    async def farewell(self) -> str:
        """Read to the end and return the code of the Goodbye before it, or nothing."""
        code = ""
        while True:
            try:
                message = await self.receive()
            except ConnectionClosed:
                return code
            code = message.problem.code if isinstance(message, Goodbye) else ""


async def reception(*, automatic: bool = True, **options: Any) -> tuple[Wires, Lower]:
    wires = Wires("memory")
    lower = Lower(wires.of("lower"), url=wires.url("lower"), **options)
    return wires, await lower.open(automatic=automatic)
