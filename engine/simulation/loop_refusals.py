"""What the virtual loop refuses, each with the thing to use instead. Floor 10.

* A refusal is an Escape: simulated code reached for the real world. It is also written down, because code under test
  may catch it and go on; a simulation asks for the list at its end.
* Everything of asyncio's loop interface that needs sockets, pipes, signals, processes or threads is in the table below.
"""

from typing import Any

ESCAPES_KEPT_MAX = 100  # sentences kept for the end; later ones are raised all the same

_NETWORK = "use world.transport(url), whose connections the simulation can delay, lose and cut"
_PROCESS = "use world.process_host(), whose processes the simulation can crash and lose"
_SIGNAL = "a simulated node is ended by loop.crash, and asked to stop by a message"
_FILE = "a simulated node keeps what it must in world.open_store()"


class Escape(RuntimeError):
    """Simulated code reached for the real world; the sentence names the call and what to use instead."""


def _refused(name: str, instead: str) -> Any:
    def refuse(self: "Refusals", *args: Any, **options: Any) -> Any:
        raise self.escape(f"loop.{name} leaves the simulation: {instead}")

    refuse.__name__ = name
    refuse.__qualname__ = f"VirtualLoop.{name}"
    refuse.__doc__ = f"Raise Escape: {instead}."
    return refuse


class Refusals:
    """The refused part of asyncio's loop; put before BaseEventLoop among the bases."""

    escapes: list[str]

    def escape(self, sentence: str) -> Escape:
        """Write an escape down and return it for raising."""
        if len(self.escapes) < ESCAPES_KEPT_MAX:
            self.escapes.append(sentence)
        return Escape(sentence)

    getaddrinfo = _refused("getaddrinfo", _NETWORK)
    getnameinfo = _refused("getnameinfo", _NETWORK)
    create_connection = _refused("create_connection", _NETWORK)
    create_server = _refused("create_server", _NETWORK)
    create_unix_connection = _refused("create_unix_connection", _NETWORK)
    create_unix_server = _refused("create_unix_server", _NETWORK)
    create_datagram_endpoint = _refused("create_datagram_endpoint", _NETWORK)
    connect_accepted_socket = _refused("connect_accepted_socket", _NETWORK)
    start_tls = _refused("start_tls", _NETWORK)
    sendfile = _refused("sendfile", _NETWORK)
    sock_accept = _refused("sock_accept", _NETWORK)
    sock_connect = _refused("sock_connect", _NETWORK)
    sock_recv = _refused("sock_recv", _NETWORK)
    sock_recv_into = _refused("sock_recv_into", _NETWORK)
    sock_recvfrom = _refused("sock_recvfrom", _NETWORK)
    sock_recvfrom_into = _refused("sock_recvfrom_into", _NETWORK)
    sock_sendall = _refused("sock_sendall", _NETWORK)
    sock_sendfile = _refused("sock_sendfile", _NETWORK)
    sock_sendto = _refused("sock_sendto", _NETWORK)
    add_reader = _refused("add_reader", _NETWORK)
    remove_reader = _refused("remove_reader", _NETWORK)
    add_writer = _refused("add_writer", _NETWORK)
    remove_writer = _refused("remove_writer", _NETWORK)
    connect_read_pipe = _refused("connect_read_pipe", _FILE)
    connect_write_pipe = _refused("connect_write_pipe", _FILE)
    subprocess_exec = _refused("subprocess_exec", _PROCESS)
    subprocess_shell = _refused("subprocess_shell", _PROCESS)
    add_signal_handler = _refused("add_signal_handler", _SIGNAL)
    remove_signal_handler = _refused("remove_signal_handler", _SIGNAL)
    set_default_executor = _refused("set_default_executor", "there are no threads in a simulation")
