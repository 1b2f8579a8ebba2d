"""The project's files, each read and parsed once; what the checks of the house look at.

* Nothing of the project is imported here: only text and syntax trees are read, so a broken module is still checked.
* Paths are relative to the root and written with slashes; modules are dotted (`engine/base/__init__.py` is
  `engine.base`).
"""

import ast
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

SOURCE_FOLDERS = ("engine", "actors", "transports")
TEST_FOLDER = "tests"
EXAMPLE_FOLDER = "examples"
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name: `target` is what was asked for, in full (`engine.base.ids.EventId`), `module` where from."""

    target: str
    module: str
    line: int


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that somebody chose: kind is class, function, argument or field."""

    kind: str
    name: str
    line: int
    annotation: str


@dataclasses.dataclass(frozen=True)
class Use:
    """A dotted path that the code mentions, resolved through its imports (`time.monotonic`, `builtins.print`)."""

    path: str
    line: int


@dataclasses.dataclass(frozen=True)
class Function:
    """A function and its extent, decorators not counted."""

    name: str
    line: int
    lines: int
    is_async: bool


class PythonFile:
    """One Python file: its text, its tree and what was found in it."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path.relative_to(root).as_posix()
        self.module = _module_name(self.path)
        self.is_package = path.name == "__init__.py"
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.count("\n") + (not self.text.endswith("\n") and bool(self.text))
        self.tree = ast.parse(self.text, self.path)
        self.docstring = ast.get_docstring(self.tree, clean=False) or ""
        self.imports: list[Import] = []
        self.names: list[Name] = []
        self.functions: list[Function] = []
        self.strings: list[Use] = []
        self.uses: list[Use] = []
        self._aliases: dict[str, str] = {}
        self._nodes = list(ast.walk(self.tree))
        self._read_imports()
        self._read_names()
        self._read_uses()

    @property
    def package(self) -> str:
        """The package in which relative imports begin."""
        return self.module if self.is_package else self.module.rpartition(".")[0]

    @property
    def has_code(self) -> bool:
        """Whether there is more than a docstring, imports and dunder names."""
        return not all(
            isinstance(node, ast.Import | ast.ImportFrom)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (
                isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and _is_dunder(t.id) for t in node.targets)
            )
            for node in self.tree.body
        )

    def _read_imports(self) -> None:
        for node in self._nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports.append(Import(alias.name, alias.name, node.lineno))
                    bound = alias.asname or alias.name.partition(".")[0]
                    self._aliases[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.ImportFrom):
                base = self._base_of(node)
                for alias in node.names:
                    target = base if alias.name == "*" else f"{base}.{alias.name}"
                    self.imports.append(Import(target, base, node.lineno))
                    self._aliases[alias.asname or alias.name] = target

    def _base_of(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _read_names(self) -> None:
        for node in self._nodes:
            if isinstance(node, ast.ClassDef):
                self.names.append(Name("class", node.name, node.lineno, ""))
                self.names.extend(
                    Name("field", inner.target.id, inner.lineno, ast.unparse(inner.annotation))
                    for inner in node.body
                    if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
                )
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                returns = ast.unparse(node.returns) if node.returns else ""
                arguments = list(_arguments(node.args))
                self.names.append(Name("function", node.name, node.lineno, returns))
                self.names.extend(arguments)
                end = node.end_lineno or node.lineno
                is_async = isinstance(node, ast.AsyncFunctionDef)
                self.functions.append(Function(node.name, node.lineno, end - node.lineno + 1, is_async))
            elif isinstance(node, ast.Lambda):
                self.names.extend(_arguments(node.args))

    def _read_uses(self) -> None:
        bound_here = {node.id for node in self._nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        defined = {name.name for name in self.names}
        for node in self._nodes:
            if isinstance(node, ast.Attribute):
                path = self._dotted(node)
                if path is not None:
                    self.uses.append(Use(path, node.lineno))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if node.id in self._aliases:
                    self.uses.append(Use(self._aliases[node.id], node.lineno))
                elif node.id not in bound_here and node.id not in defined:
                    self.uses.append(Use(f"builtins.{node.id}", node.lineno))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= 100:
                self.strings.append(Use(node.value, node.lineno))

    def _dotted(self, node: ast.Attribute) -> str | None:
        """Write an attribute chain with its first name resolved; a chain on an event loop begins with `<loop>`."""
        parts = [node.attr]
        inner: ast.expr = node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in self._aliases:
            parts.append(self._aliases[inner.id])
            return ".".join(reversed(parts))
        owner = node.value.func if isinstance(node.value, ast.Call) else node.value  # the loop, or what returns it
        name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
        return f"<loop>.{node.attr}" if name.strip("_").endswith("loop") else None


class House:
    """All files of a tree. `source` holds the modules that are shipped, by module name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.broken: list[str] = []
        self.source = {file.module: file for file in self._read(SOURCE_FOLDERS)}
        self.tests = list(self._read((TEST_FOLDER,)))
        self.examples = list(self._read((EXAMPLE_FOLDER,)))

    def _read(self, folders: tuple[str, ...]) -> Iterator[PythonFile]:
        for folder in folders:
            for path in sorted((self.root / folder).rglob("*.py")):
                if "__pycache__" in path.parts:
                    continue
                try:
                    yield PythonFile(self.root, path)
                except (SyntaxError, UnicodeDecodeError, ValueError) as error:
                    self.broken.append(f"{path.relative_to(self.root).as_posix()}: cannot be read as Python: {error}")

    def python(self) -> Iterator[PythonFile]:
        """All Python files: source, tests, examples."""
        yield from self.source.values()
        yield from self.tests
        yield from self.examples

    def texts(self) -> Iterator[tuple[str, str]]:
        """Path and text of every text file that belongs to the project, Python or not."""
        yield from ((file.path, file.text) for file in self.python())
        folders = (*SOURCE_FOLDERS, TEST_FOLDER, EXAMPLE_FOLDER, "docs", ".ci")
        paths = [path for folder in folders for path in sorted((self.root / folder).rglob("*"))]
        paths += [path for path in sorted(self.root.iterdir()) if path.name != ".git"]
        for path in paths:
            if not path.is_file() or path.suffix == ".py" or "__pycache__" in path.parts:
                continue
            try:
                yield path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # a picture or a recorded file
                continue

    def document(self, path: str) -> str | None:
        """The text of a document, or None where it does not exist."""
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def module_of(self, one: Import) -> str | None:
        """The module of ours that an import reaches, None if it is foreign; one that does not exist yet counts too."""
        if one.module.partition(".")[0] not in SOURCE_FOLDERS:
            return None
        return one.target if one.target in self.source else one.module

    @functools.cached_property
    def edges(self) -> list[tuple[PythonFile, str, int]]:
        """Who imports which module of ours, and on which line; every form of import counts, wherever it stands.

        A string that is exactly the name of one of our modules (`engine.boot`, `engine.boot:join`) counts as well:
        that is how an import is hidden.
        """
        found: list[tuple[PythonFile, str, int]] = []
        for file in self.source.values():
            for one in file.imports:
                target = self.module_of(one)
                if target is not None and target != file.module:
                    found.append((file, target, one.line))
            for text in file.strings:
                target = text.path.partition(":")[0]
                if "." in target and target in self.source and target != file.module:
                    found.append((file, target, text.line))
        return found


@functools.cache
def our_house() -> House:
    """The project itself, read once per process."""
    return House(ROOT)


def _module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _arguments(arguments: ast.arguments) -> Iterator[Name]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    for one in every:
        yield Name("argument", one.arg, one.lineno, ast.unparse(one.annotation) if one.annotation else "")
