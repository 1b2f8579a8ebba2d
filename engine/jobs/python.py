"""python: a callable `module:function`, sync or async, inside the subagent's process. Floor 4.

* It is quick to start and dies with us: after a crash its attempt is unknown, and `on_lost` decides.
* What it returns becomes the attempt's results: an object's entries each, anything else as `result`, null as nothing.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from engine.base.codec import Value, value_fault
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
    except Exception as error:
        remedy = "; give it to the engine as callables={…}" if "#" in path else ""
        raise CallableFault(f"{path!r} can not be imported: {type(error).__name__}: {error}{remedy}") from error
    if not callable(found):
        raise CallableFault(f"{path!r} is a {type(found).__name__}, which can not be called")
    return found  # type: ignore[no-any-return]


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def results_of(returned: Any) -> dict[str, Value]:
    """Turn what a callable returned into results; raises CallableFault for what can not be kept."""
    if returned is None:
        return {}
    results = dict(returned) if isinstance(returned, Mapping) else {"result": returned}
    fault = value_fault(results)
    if fault is not None:
        raise CallableFault(f"it returned what can not be kept: {fault}")
    return results
