"""The page of lanes: a story as one HTML file that needs nothing else, and no network. Floor 10.

* The story is in it as JSON, in which nothing can end its element; the page shows every word of it as text only.
"""

import html
from pathlib import Path

import msgspec

from engine.simulation.lanes import Story

PAGE = Path(__file__).with_name("lanes.html")

# What could end the element that holds it, or a line of JavaScript, written as JSON allows.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def page_of(story: Story) -> str:
    """Write a story as a page."""
    source = msgspec.json.encode(story).decode()
    for character, written in _ESCAPES.items():
        source = source.replace(character, written)
    before, _, rest = PAGE.read_text("utf-8").partition("@STORY@")
    return before.replace("@TITLE@", html.escape(story.title)) + source + rest
