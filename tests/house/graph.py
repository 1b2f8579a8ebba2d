"""Draw the floors from the real imports: `python -m tests.house.graph [--mermaid]`, or `make graph`."""

import sys
from collections import Counter

from tests.house.floors import FLOOR_OF, FLOORS, package_of
from tests.house.tree import House, our_house


def package_edges(house: House) -> Counter[tuple[str, str]]:
    """Count the imports from one package of the floors table to another."""
    edges: Counter[tuple[str, str]] = Counter()
    for file, target, _ in house.edges:
        own, other = package_of(file.module), package_of(target)
        if own is not None and other is not None and own != other:
            edges[own, other] += 1
    return edges


def draw_text(house: House) -> str:
    """One line for each package, from the top floor down: its size and what it imports, nearest floor first."""
    edges = package_edges(house)
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for file in house.source.values():
        package = package_of(file.module) or "on no floor"
        files[package] += 1
        lines[package] += file.lines
    rows = []
    for floor, packages in FLOORS:
        for package in packages:
            below = sorted((other for own, other in edges if own == package), key=lambda one: (-FLOOR_OF[one], one))
            told = ", ".join(f"{other} ({edges[package, other]})" for other in below) or "nothing of ours"
            size = f"{files[package]:3} files {lines[package]:6} lines" if files[package] else "not built yet"
            rows.append(
                f"{floor:3}  {package:18} {size:22}  imports {told}"
                if files[package]
                else f"{floor:3}  {package:18} {size}"
            )
    return "\n".join(rows) + "\n"


def draw_mermaid(house: House) -> str:
    """The same as a mermaid graph: an arrow means "imports"; floors from top to bottom."""
    rows = ["graph TD"]
    present = {package_of(module) for module in house.source}
    for floor, packages in FLOORS:
        inside = [package for package in packages if package in present]
        if inside:
            rows.append(f'  subgraph floor{floor}["floor {floor}"]')
            rows += [f'    {_node(package)}["{package}"]' for package in inside]
            rows.append("  end")
    rows += [f"  {_node(own)} --> {_node(other)}" for own, other in sorted(package_edges(house))]
    return "\n".join(rows) + "\n"


def _node(package: str) -> str:
    return package.replace(".", "_").strip("_")


def main(arguments: list[str]) -> int:
    """Print the drawing."""
    draw = draw_mermaid if "--mermaid" in arguments else draw_text
    sys.stdout.write(draw(our_house()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
