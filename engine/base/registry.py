"""Registry: finds the leaves of a package (instructions, commands, job kinds) by importing its modules. Floor 0.

* A leaf is a class with its own `keyword`; two leaves with one keyword are refused.
* A registry is a value: several engines in one process may hold different ones.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

import msgspec

T = TypeVar("T")


class Registry(Generic[T]):
    """Leaves of one base class by keyword."""

    def __init__(self, base: type[T], leaves: Iterator[type[T]] | list[type[T]]) -> None:
        self.base = base
        self._leaves: dict[str, type[T]] = {}
        for leaf in leaves:
            keyword = cast("Any", leaf).keyword
            if self._leaves.setdefault(keyword, leaf) is not leaf:
                raise ValueError(f"two leaves are called {keyword!r}: {self._leaves[keyword]} and {leaf}")

    @property
    def keywords(self) -> tuple[str, ...]:
        """All keywords in the order in which the leaves were found (by module name)."""
        return tuple(self._leaves)

    def get(self, keyword: str) -> type[T] | None:
        """Return the leaf with this keyword, or None."""
        return self._leaves.get(keyword)

    def __iter__(self) -> Iterator[type[T]]:
        return iter(self._leaves.values())

    def decode(self, raw: object, dec_hook: Callable[[type, Any], Any]) -> T:
        """Turn a decoded array `[keyword, …]` into the leaf it names.

        Raises msgspec.ValidationError for an unknown keyword or fields that do not fit.
        """
        if not isinstance(raw, list | tuple) or not raw or not isinstance(raw[0], str):
            raise msgspec.ValidationError(f"expected an array that begins with a keyword of {self.base.__name__}")
        leaf = self._leaves.get(raw[0])
        if leaf is None:
            raise msgspec.ValidationError(f"unknown {self.base.__name__.lower()} {raw[0]!r}")
        return msgspec.convert(raw, leaf, dec_hook=dec_hook)


def leaves_of(package: ModuleType, base: type[T]) -> list[type[T]]:
    """Import every module of a package and return the classes below `base` that define their own `keyword` there."""
    found: list[type[T]] = []
    for module_name in sorted(entry.name for entry in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{package.__name__}.{module_name}")
        found.extend(
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and "keyword" in value.__dict__
        )
    return found
