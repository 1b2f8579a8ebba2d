"""Understudy: workload automation that goes on when machines die. Floor 12.

The library's face; names are resolved when they are first used, so that importing a part costs only that part:

    from engine import Engine, Workflow, job, fork
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.base.problem import EngineClosed as EngineClosed
    from engine.base.problem import Problem as Problem
    from engine.base.problem import Refused as Refused
    from engine.documents.builder import Workflow as Workflow
    from engine.documents.builder import case as case
    from engine.documents.builder import fail as fail
    from engine.documents.builder import finish as finish
    from engine.documents.builder import fork as fork
    from engine.documents.builder import fork_list as fork_list
    from engine.documents.builder import if_ as if_
    from engine.documents.builder import job as job
    from engine.documents.builder import parameter as parameter
    from engine.documents.builder import retry as retry
    from engine.documents.builder import sleep as sleep
    from engine.documents.builder import try_ as try_
    from engine.embed import Engine as Engine
    from engine.embed import OrderFailed as OrderFailed
    from engine.embed import OrderHandle as OrderHandle

_HOMES = {
    "engine.base.problem": ("EngineClosed", "Problem", "Refused"),
    "engine.documents.builder": (
        "Workflow",
        "case",
        "fail",
        "finish",
        "fork",
        "fork_list",
        "if_",
        "job",
        "parameter",
        "retry",
        "sleep",
        "try_",
    ),
    "engine.embed": ("Engine", "OrderFailed", "OrderHandle"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - computed from the one table above


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]
