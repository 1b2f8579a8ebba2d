"""Words that a name must not contain, because they say nothing; and what to say instead."""

import re
from collections.abc import Iterator

from tests.house.tree import House, PythonFile

INSTEAD = {
    "manager": "say what it does: registry, supervisor, pool, scope, keeper",
    "handler": "name the act: a verb for a function (`decide_add_order`), a callback is `on_<event>`",
    "helper": "name what it computes, or put it beside its only caller",
    "util": "name what it computes, and give the module the name of its subject",
    "misc": "split it by subject",
    "common": "name the subject that is shared",
    "service": "name the role: controller, agent, director, subagent, host, store",
    "info": "name the content: state, page, header, statistics, description",
    "data": "name the content: raw, payload, record, rows, variables, state",
    "task": "`task` is an asyncio task only (annotate it as one); a unit of work is a job, an attempt, an effect, work",
}
PLURALS = {f"{word}s": word for word in INSTEAD if word not in {"misc", "common", "data"}} | {"utilities": "util"}

# Names that somebody else chose and calls: overriding them is not choosing them.
IMPOSED = {
    "data_received": "asyncio.Protocol",
    "datagram_received": "asyncio.DatagramProtocol",
    "pipe_data_received": "asyncio.SubprocessProtocol",
    "create_task": "asyncio.AbstractEventLoop",
    "get_task_factory": "asyncio.AbstractEventLoop",
    "set_task_factory": "asyncio.AbstractEventLoop",
    "add_signal_handler": "asyncio.AbstractEventLoop",
    "remove_signal_handler": "asyncio.AbstractEventLoop",
    "set_exception_handler": "asyncio.AbstractEventLoop",
    "get_exception_handler": "asyncio.AbstractEventLoop",
    "call_exception_handler": "asyncio.AbstractEventLoop",
    "default_exception_handler": "asyncio.AbstractEventLoop",
    "exc_info": "logging",
    "data": "asyncio.Protocol.data_received and Transport.write, whose argument it is",
}
# `data` is imposed only as the argument of those; everywhere else it is a choice.
IMPOSED_DATA_IN = re.compile(r"def (data_received|datagram_received|pipe_data_received|write|send|sendto|feed_data)\b")

# Files whose subject are asyncio tasks.
ABOUT_TASKS = ("engine/base/tasks.py", "engine/simulation/")

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def banned_word(name: str) -> str | None:
    """Return the first banned word in a name, whether it is written snake_case or CamelCase."""
    for part in _PART.finditer(name):
        word = part[0].lower()
        word = PLURALS.get(word, word)
        if word in INSTEAD:
            return word
    return None


def check_names(house: House) -> Iterator[str]:
    """Modules, classes, functions, arguments and fields carry no banned word."""
    for file in house.source.values():
        last = file.module.rpartition(".")[2]
        yield from _complaint(file, 1, "module", last)
        for one in file.names:
            if not _imposed(file, one.name, one.line) and not (
                banned_word(one.name) == "task" and re.search(r"Task\b|TaskScope", one.annotation)
            ):
                yield from _complaint(file, one.line, one.kind, one.name)
    for file in house.tests:
        yield from _complaint(file, 1, "module", file.module.rpartition(".")[2])


def _complaint(file: PythonFile, line: int, kind: str, name: str) -> Iterator[str]:
    word = banned_word(name)
    if word is not None and not (word == "task" and file.path.startswith(ABOUT_TASKS)):
        yield f"{file.path}:{line}: {kind} {name} contains the word {word!r}; {INSTEAD[word]}"


def _imposed(file: PythonFile, name: str, line: int) -> bool:
    if name == "data":
        text = file.text.splitlines()
        nearby = "\n".join(text[max(0, line - 3) : line])  # the argument may stand on a line of its own
        return IMPOSED_DATA_IN.search(nearby) is not None
    return name in IMPOSED
