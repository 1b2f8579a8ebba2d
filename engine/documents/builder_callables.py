"""Callables in workflows built in Python: their names, and those that only this process can know. Floor 5.

* A workflow holds names alone, so it is stored and sent like any other; the callables stand beside it.
* A callable that can be imported has the name `module:qualname` and nothing else.
* Any other has a name that the same source gives again after a restart: `module:qualname#job`.
"""

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.jobs.python import PythonJob
from engine.model.workflow import Workflow

CALLABLES = "callables"  # in the own dict of the workflow, which is no part of its value


class LocalName(str):
    """The name of a callable that can not be imported, with the callable; only until the workflow is built."""

    __slots__ = ("function",)
    function: Callable[..., Any]


def callables_of(workflow: Workflow) -> dict[str, Callable[..., Any]]:
    """Return the callables by name that an engine must know before it runs this workflow; {} for most.

    To be asked of the workflow as it was built: a changed copy (another version, say) has lost them.
    """
    return dict(workflow.__dict__.get(CALLABLES, {}))


def named(function: Callable[..., Any], job: str) -> str:
    """Return the name of a callable: importable as `module:qualname`, or known to this process only."""
    if not callable(function):
        raise TypeError(f"python of job {job!r} is a {type(function).__name__}, which can not be called")
    module = getattr(function, "__module__", None) or type(function).__module__
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    if module != "__main__" and _is_imported(module, qualname, function):
        return f"{module}:{qualname}"
    name = LocalName(f"{module}:{qualname}#{job}")
    name.function = function
    return name


def unnamed(value: Any, found: dict[str, Callable[..., Any]]) -> Any:
    """Return a step with plain texts for the names of local callables, which are put into `found`.

    Raises ValueError when one name would mean two callables.
    """
    if isinstance(value, PythonJob) and isinstance(value.python, LocalName):
        name = str(value.python)
        if found.setdefault(name, value.python.function) is not value.python.function:
            raise ValueError(f"two different callables are called {name!r}; give their jobs different names")
        return msgspec.structs.replace(value, python=name)
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in fields.items() if (new := unnamed(old, found)) is not old}
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, tuple | list):
        items = [unnamed(item, found) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else type(value)(items)
    if isinstance(value, Mapping):
        entries = {key: unnamed(inner, found) for key, inner in value.items()}
        return value if all(entries[key] is value[key] for key in value) else entries
    return value


def _is_imported(module: str, qualname: str, function: Callable[..., Any]) -> bool:
    """Tell whether a callable is what stands under a qualified name of a loaded module."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    # A class method is a new object at each look, equal to the last.
    return found is function or (isinstance(function, types.MethodType) and bool(found == function))
