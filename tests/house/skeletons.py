"""The code in CONTRIBUTING.md must be code that would work: what it imports of ours exists."""

import ast
import re
from collections.abc import Iterator

from tests.house.tree import SOURCE_FOLDERS, House, PythonFile

PAGE = "CONTRIBUTING.md"

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def check_skeletons(house: House) -> Iterator[str]:
    """Each block of Python on the page parses, and each name it imports of ours is there."""
    text = house.document(PAGE) or ""
    for match in _FENCE.finditer(text):
        first = text.count("\n", 0, match.start(1))
        try:
            tree = ast.parse(match[1])
        except SyntaxError as error:
            yield f"{PAGE}:{first + (error.lineno or 1)}: does not parse: {error.msg}"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in SOURCE_FOLDERS:
                file = house.source.get(node.module or "")
                for alias in node.names:
                    if file is None or alias.name not in _top_names(file):
                        yield (
                            f"{PAGE}:{first + node.lineno}: {node.module} has no {alias.name} any more; "
                            "write the skeleton as the newest leaf is written"
                        )


def _top_names(file: PythonFile) -> set[str]:
    """Names that a module defines itself, also below a top-level `if`."""
    names: set[str] = set()
    branches = [inner for node in file.tree.body if isinstance(node, ast.If) for inner in (*node.body, *node.orelse)]
    for node in (*file.tree.body, *branches):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names
