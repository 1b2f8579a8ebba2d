"""python: a callable `module:function`, sync or async, inside the subagent's process. Floor 4.

* It is quick to start and dies with us: after a crash its attempt is unknown, and `on_lost` decides.
* What it returns becomes the attempt's results: an object's entries each, anything else as `result`, null as nothing.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from engine.base.codec import VALUE_DEPTH_MAX, Value, encode, value_fault
from engine.base.ids import is_variable
from engine.base.limits import RESULT_BYTES_MAX
from engine.model.expression import Template
from engine.model.job import Job


class PythonJob(msgspec.Struct, Job, frozen=True, array_like=True, tag="python"):
    """Call `module:function` with keyword arguments."""

    keyword: ClassVar[str] = "python"
    outlives: ClassVar[bool] = False

    python: str
    arguments: dict[str, Template] = {}

    def templates(self) -> Mapping[str, Template]:
        return self.arguments


class CallableFault(Exception):
    """A callable can not be found or returned what can not be kept; the sentence says which."""


def find_callable(path: str, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return the callable a path names: one registered with the engine, or `module:function`; raises CallableFault.

    A name with `#` was given to a function object; after a restart it is looked for where it was defined, since its
    program may not have registered it again before its order goes on.
    """
    if path in known:
        return known[path]
    module_name, colon, name = path.partition("#")[0].partition(":")
    if not colon or not module_name or not name:
        raise CallableFault(f"{path!r} does not name a callable; write module:function")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except BaseException as error:  # a module may call sys.exit
        remedy = "; give it to the engine as callables={…}" if "#" in path else ""
        raise CallableFault(f"{path!r} can not be imported: {sentence_of(error)}{remedy}") from error
    if not callable(found):
        raise CallableFault(f"{path!r} is a {type(found).__name__}, which can not be called")
    return found  # type: ignore[no-any-return]


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def results_of(returned: Any) -> dict[str, Value]:
    """Turn what a callable returned into results of plain types, ours alone; raises CallableFault for the rest.

    Numbers and texts of other types (such as numpy's floats) become plain ones. What it may hold together is
    RESULT_BYTES_MAX, as in a result file.
    """
    if returned is None:
        return {}
    room = [RESULT_BYTES_MAX]
    results = _plain(returned if isinstance(returned, Mapping) else {"result": returned}, 0, room)
    for name in results:
        if not is_variable(name):
            raise CallableFault(f"it returned {name!r}, which can not be the name of a variable (letters, digits, _)")
    if len(encode(results)) > RESULT_BYTES_MAX:
        raise _too_large()
    return results  # type: ignore[no-any-return]


def _too_large() -> CallableFault:
    return CallableFault(f"it returned more than {RESULT_BYTES_MAX} bytes; write a file and return its name")


def _plain(value: Any, depth: int, room: list[int]) -> Any:
    room[0] -= len(value) + 1 if isinstance(value, str) else 1
    if room[0] < 0:
        raise _too_large()
    kind = type(value)
    if isinstance(value, Mapping | list | tuple) and depth <= VALUE_DEPTH_MAX:
        if isinstance(value, Mapping):
            return {_text(key, room): _plain(inner, depth + 1, room) for key, inner in value.items()}
        return [_plain(item, depth + 1, room) for item in value]
    if fault := value_fault(value, depth):
        raise CallableFault(f"it returned what can not be kept: {fault}")
    if kind in (int, float, str, bool) or value is None:
        return value
    return next(plain(value) for base, plain in _PLAIN.items() if isinstance(value, base))


def _text(key: Any, room: list[int]) -> str:
    if not isinstance(key, str):
        raise CallableFault(f"it returned what can not be kept: the key {key!r} is not text")
    plain: str = _plain(key, 0, room)
    return plain


_PLAIN: dict[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, str: str.__str__}


def sentence_of(error: BaseException) -> str:
    """Say an exception in a sentence that can be kept, whatever its class and text are."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - its class is a person's
        text = "its text can not be made"
    return f"{name}: {text}".removesuffix(": ").encode(errors="replace").decode()
