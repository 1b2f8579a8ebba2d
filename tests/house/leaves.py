"""Leaves: what a registry finds (instructions, operator commands, job kinds), and the pages that tell of them.

* A leaf is a class with a `keyword` of its own.
* Each keyword stands in backquotes on the page of its kind.
"""

import ast
import dataclasses
from collections.abc import Iterator

from tests.house.tree import House, PythonFile


@dataclasses.dataclass(frozen=True)
class Kind:
    """A folder of leaves: its package, the page that tells of each, and whether every module of it must hold a leaf."""

    package: str
    page: str
    only_leaves: bool


KINDS = (
    Kind("engine.rules.instructions", "docs/instructions.md", only_leaves=True),
    Kind("engine.rules.commands", "docs/commands.md", only_leaves=True),
    Kind("engine.jobs", "docs/jobs.md", only_leaves=False),  # the guard and its host live there too
)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A class that a registry finds."""

    file: PythonFile
    line: int
    name: str
    keyword: str


def leaves(house: House, kind: Kind) -> Iterator[Leaf]:
    """Every leaf directly in the kind's package, by module name."""
    for file in _modules(house, kind):
        for node in file.tree.body:
            if isinstance(node, ast.ClassDef) and (keyword := _keyword(node)) is not None:
                yield Leaf(file, node.lineno, node.name, keyword)


def check_leaves(house: House) -> Iterator[str]:
    """A folder of leaves holds leaves, one keyword belongs to one leaf, and each is told of on its page."""
    for kind in KINDS:
        first: dict[str, Leaf] = {}
        page = house.document(kind.page)
        found = list(leaves(house, kind))
        if found and page is None:
            words = ", ".join(f"`{leaf.keyword}`" for leaf in found)
            yield f"{kind.page}: does not exist; tell there of each leaf of {kind.package}: {words}"
        for leaf in found:
            place = f"{leaf.file.path}:{leaf.line}"
            if leaf.keyword in first:
                yield f"{place}: keyword {leaf.keyword!r} belongs to {first[leaf.keyword].file.path} already"
            first.setdefault(leaf.keyword, leaf)
            if page is not None and f"`{leaf.keyword}`" not in page:
                yield f"{place}: {leaf.name} is not told of; add `{leaf.keyword}`, in backquotes, to {kind.page}"
        if kind.only_leaves:
            with_leaf = {leaf.file.path for leaf in found}
            for file in _modules(house, kind):
                if file.path not in with_leaf:
                    yield (
                        f"{file.path}:1: no class in it has a `keyword`, so the registry finds nothing there; give it "
                        f"one, or move the file out of {kind.package}"
                    )


def _modules(house: House, kind: Kind) -> Iterator[PythonFile]:
    for module in sorted(house.source):
        if module.rpartition(".")[0] == kind.package and not house.source[module].is_package:
            yield house.source[module]


def _keyword(node: ast.ClassDef) -> str | None:
    """Read `keyword = "fork"` or `keyword: ClassVar[str] = "fork"` from a class's body."""
    for inner in node.body:
        if isinstance(inner, ast.Assign):
            named = any(isinstance(target, ast.Name) and target.id == "keyword" for target in inner.targets)
        elif isinstance(inner, ast.AnnAssign):
            named = isinstance(inner.target, ast.Name) and inner.target.id == "keyword"
        else:
            continue
        if named and isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, str):
            return inner.value.value
    return None
