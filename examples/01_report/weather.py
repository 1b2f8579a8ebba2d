"""The Python jobs of the weather report. Each writes beside and renames, so that running it again is harmless."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any


def years(folder: str) -> dict[str, Any]:
    """Return the years the records cover."""
    return {"years": sorted({row["date"][:4] for row in _rows(Path(folder) / "all.csv")})}


def summarise(folder: str, year: str) -> dict[str, Any]:
    """Return one year's figures."""
    rows = _rows(Path(folder) / f"{year}.csv")
    if not rows:
        raise ValueError(f"there are no records of {year}")
    kinds = Counter(row["weather"] for row in rows)
    hottest = max(rows, key=lambda row: float(row["temp_max"]))
    return {
        "summary": {
            "year": year,
            "days": len(rows),
            "rain_mm": round(sum(float(row["precipitation"]) for row in rows), 1),
            "hottest_date": hottest["date"],
            "hottest_celsius": float(hottest["temp_max"]),
            "mostly": kinds.most_common(1)[0][0],
        }
    }


def write(folder: str, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the report and return its path."""
    lines = [
        "# Weather in Seattle",
        "",
        "| year | days | rain, mm | hottest day | °C | mostly |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['year']} | {one['days']} | {one['rain_mm']} | {one['hottest_date']} | {one['hottest_celsius']} "
        f"| {one['mostly']} |"
        for one in summaries
    ]
    path = Path(folder) / "report.md"
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(path)
    return {"report": str(path)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
