"""The page of lanes: one file, no network, nothing in it can break out, and the plain part of its script computes.

Where node is not installed, the script is only looked at, not run.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any

import pytest

from engine.simulation.lanes import Bar, Lane, Point, Story
from engine.simulation.lanes_page import PAGE, page_of

NASTY = "</script x <!--<script </script><img src=x onerror=alert(1)> <!-- & \u2028 \" ' </SCRIPT> @STORY@ @TITLE@"
STORY = Story(
    NASTY,
    NASTY,
    [NASTY],
    1_000.0,
    [Lane(NASTY, NASTY, [Bar(0, 10, "run", NASTY, NASTY)], [Point(5, "event", NASTY)])],
    [NASTY],
)
VOID = {"meta", "input", "link", "br", "img"}


class Strict(HTMLParser):
    """Reads a page as strictly as it can be: every element is closed, in the right order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def script_of(page: str, name: str) -> str:
    found = re.search(rf'<script[^>]* id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


def test_it_is_one_well_formed_file_that_asks_nobody_for_anything() -> None:
    parser = read(page_of(STORY))
    assert [tag for tag, _ in parser.elements].count("script") == 3
    assert not [tag for tag, _ in parser.elements if tag in {"img", "link", "iframe", "object", "base", "form"}]
    assert not [fields for _, fields in parser.elements if {"src", "href", "onclick", "onload"} & fields.keys()]
    policy = next(fields["content"] for _, fields in parser.elements if "http-equiv" in fields)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    source = PAGE.read_text("utf-8")
    assert not re.search(r"https?:|innerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", source)


def test_what_comes_from_outside_is_text_and_comes_through_unchanged() -> None:
    page = page_of(STORY)
    parser = read(page)
    assert "".join(parser.text["title"]) == NASTY
    assert "".join(parser.text["h1"]) == NASTY
    source = script_of(page, "story")
    assert not set("<>&\u2028") & set(source), "nothing that a browser could take for the end of it"
    story = json.loads(source)
    assert story["lanes"] == [
        {"name": NASTY, "role": NASTY, "bars": [[0, 10, "run", NASTY, NASTY]], "points": [[5, "event", NASTY]]}
    ]
    assert story["found"] == [NASTY]


def test_it_can_be_used_by_keyboard_and_without_colours() -> None:
    parser = read(PAGE.read_text("utf-8"))
    by_id = {fields["id"]: fields for _, fields in parser.elements if "id" in fields}
    assert by_id["stage"]["tabindex"] == "0"
    assert by_id["stage"]["aria-label"]
    assert by_id["stage"]["aria-describedby"] in by_id
    assert by_id["said"]["aria-live"] == "polite"
    assert [fields for tag, fields in parser.elements if tag == "html"] == [{"lang": "en"}]
    glyphs = re.search(r"GLYPHS: \{(.*?)\}", PAGE.read_text("utf-8"))
    assert glyphs is not None
    signs = re.findall(r'"(.)"', glyphs[1])
    assert len(set(signs)) == len(signs) == 8, "each kind of point has a sign of its own"


node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def computed(expressions: dict[str, str]) -> dict[str, Any]:
    """Run the plain part of the page's script in node, and compute with it."""
    pure = script_of(PAGE.read_text("utf-8"), "pure")
    wanted = ", ".join(f"{json.dumps(name)}: {source}" for name, source in expressions.items())
    program = f"{pure}\nconsole.log(JSON.stringify({{{wanted}}}));"
    ended = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@node
def test_the_plain_part_of_the_script_computes_right() -> None:
    story = json.dumps(
        {
            "lanes": [
                {"name": "a", "bars": [[5, 9, "run", "a#1", "it runs"]], "points": [[7, "event", "OrderAdded x"]]},
                {"name": "b", "bars": [], "points": [[1, "crash", "crash"], [8, "log", "Order held"]]},
            ]
        }
    )
    entries = f"Lanes.entries({story})"
    found = computed(
        {
            "pack": "Lanes.pack([[0, 10], [5, 8], [8, 9], [10, 12]])",
            "many": "Lanes.pack(Array.from({length: 50}, () => [0, 1])).count",
            "entries": f"{entries}.map((one) => [one.at, one.end, one.lane, one.kind, one.bar])",
            "find": f"Lanes.find({entries}, {story}.lanes, 'ORDER  a')",
            "find nothing": f"Lanes.find({entries}, {story}.lanes, '  ')",
            "clamp": "[Lanes.clamp([-5, 5], 100), Lanes.clamp([98, 110], 100), Lanes.clamp([0, 500], 100)]",
            "zoom": "[Lanes.zoom([0, 100], 2, 50, 100), Lanes.zoom([25, 75], 0.1, 50, 100)]",
            "zoom at most": "Lanes.zoom([0, 0.002], 10, 0, 9)",
            "pan": "Lanes.pan([0, 10], 0.5, 100)",
            "showing": "[Lanes.showing([0, 10], 5, 100), Lanes.showing([0, 10], 50, 100)]",
            "ticks": "Lanes.ticks([0, 1000], 10)",
            "seconds": "[Lanes.seconds(1500, 100), Lanes.seconds(1500, 1000), Lanes.seconds(0.001, 0.001)]",
            "beside": f"Lanes.beside({entries}, -1, 1, (one) => one.lane === 0)",
            "beside none": f"Lanes.beside({entries}, 0, -1, (one) => one)",
            "nearest": f"[Lanes.nearest({entries}, 0, 6, () => true), Lanes.nearest({entries}, 1, 7, () => true),"
            f" Lanes.nearest({entries}, 9, 7, () => true)]",
        }
    )
    assert found == {
        "pack": {"rows": [0, 1, 1, 0], "count": 2},
        "many": 12,
        "entries": [
            [1, 1, 1, "crash", False],
            [5, 9, 0, "run", True],
            [7, 7, 0, "event", False],
            [8, 8, 1, "log", False],
        ],
        "find": [2],
        "find nothing": [],
        "clamp": [[0, 10], [88, 100], [0, 100]],
        "zoom": [[25, 75], [0, 100]],
        "zoom at most": [0, 0.001],
        "pan": [5, 15],
        "showing": [[0, 10], [45, 55]],
        "ticks": {"step": 100, "found": [100 * one for one in range(11)]},
        "seconds": ["1.5", "2", "0.000001"],
        "beside": 1,
        "beside none": -1,
        "nearest": [1, 3, -1],
    }


@node
def test_the_script_of_the_page_is_javascript() -> None:
    source = PAGE.read_text("utf-8")
    last = source.rpartition("<script>")[2].partition("</script>")[0]
    check = "new (require('vm').Script)(require('fs').readFileSync(0, 'utf8'))"
    ended = subprocess.run(["node", "-e", check], input=last, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "getElementById" in last
