"""The strict reader of YAML 1.2 documents: the parser's events become a tree without ever being composed.

Floor 5.

* Only events are taken from PyYAML: its composer recurses (and crashes), its constructor reads YAML 1.1.
* Reading stops at the first event that is too deep; the parser looks no further ahead than one key (1,024 characters).
* An alias shares the node of its anchor and counts as all that it stands for.
* libyaml's parser is used where it is there, else the pure one (6 times slower): a document that both accept gives
  the same tree; the pure one refuses tabs between values, and passes over directives it does not know.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from engine.documents.node import DocumentError, Mapping, Mark, Node, ScalarValue, Sequence, quoted
from engine.documents.scalars import CORE_TAGS, ScalarError, core_value, sound, tagged_value
from engine.documents.tree import Size, Tree
from engine.documents.yaml_syntax import explain

TAG_LINES_MAX = 8

ParserName = Literal["libyaml", "pure"]
PARSER: ParserName = "libyaml" if yaml.__with_libyaml__ else "pure"

_TAG_LINE = re.compile(r"^%TAG", re.MULTILINE)
_TAG_PREFIX = "tag:yaml.org,2002:"


class _Anchor:
    """A named node; ``node`` is None while it is still open."""

    __slots__ = ("node", "size")

    def __init__(self) -> None:
        self.node: Node | None = None
        self.size = Size(0, 0, 0)


def read_yaml(text: str, file: str, *, parser: ParserName = PARSER) -> Node:
    """Read one YAML document; raise DocumentError with every fault that was found.

    The caller has bounded the size and refused characters that no document holds (see ``loader``).
    """
    return _YamlReader(text, file).read(parser)


class _YamlReader:
    """One pass over the events of one document."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._tree = Tree(file)
        self._anchors: dict[str, _Anchor] = {}
        self._open: list[_Anchor | None] = []
        self._documents = 0
        self._last = Mark(1, 1)

    def read(self, parser: ParserName) -> Node:
        self._refuse_tag_lines()
        for event in self._events(parser):
            self._take(event)
        if self._documents == 0:
            raise self._tree.stopped(Mark(1, 1), "The document is empty.")
        return self._tree.finish()

    def _events(self, parser: ParserName) -> Iterator[Event]:
        """Yield the parser's events; whatever it fails with becomes the last fault."""
        parse: Any = None
        try:
            parse = yaml.CSafeLoader(self._text) if parser == "libyaml" else yaml.SafeLoader(self._text)
            while parse.check_event():
                yield parse.get_event()
        except yaml.MarkedYAMLError as error:
            raise self._tree.stopped(*explain(error, self._text, end_of(self._text))) from None
        except (yaml.YAMLError, ValueError, OverflowError):
            # The pure parser lets chr() and int() fail on \UFFFFFFFF and on %YAML 1.999…; UnicodeError is a ValueError.
            raise self._unreadable(parse) from None
        finally:
            if parse is not None:
                parse.dispose()

    def _take(self, event: Event) -> None:
        kind = type(event)
        if kind is ScalarEvent:
            self._take_scalar(event)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            self._take_start(event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            self._take_end()
        elif kind is AliasEvent:
            self._take_alias(event)
        elif kind is DocumentStartEvent:
            self._take_document(event)

    def _take_scalar(self, event: Any) -> None:
        mark = self._mark(event)
        tree = self._tree
        is_plain = not event.style
        if tree.wants_key:
            self._take_key(event, mark, is_plain)
            return
        value: ScalarValue = event.value
        try:
            if event.tag is not None:
                value = self._tagged(event, mark)
            elif is_plain:
                value = core_value(event.value)
            if event.style == '"':
                sound(event.value)
        except ScalarError as error:
            tree.fault(mark, str(error))
        node = tree.scalar(value, mark)
        if event.anchor is not None:
            anchor = self._anchors[event.anchor] = _Anchor()
            anchor.node = node
            anchor.size = Size(1, len(value) if isinstance(value, str) else 0, 0)

    def _take_key(self, event: Any, mark: Mark, is_plain: bool) -> None:
        tree = self._tree
        text: str = event.value
        if is_plain and text == "<<" and event.tag is None:
            tree.bad_key(text, mark, "Merge keys ('<<') are not read here: write the keys out, or alias a whole value.")
            return
        try:
            value = self._tagged(event, mark) if event.tag is not None else core_value(text) if is_plain else text
            if event.style == '"':
                sound(text)
        except ScalarError as error:
            tree.bad_key(text, mark, str(error))
            return
        if not isinstance(value, str):
            tree.bad_key(text, mark, f"A key is a text, and {_named(value, text)}: write it in quotes.")
            return
        tree.key(value, mark)
        if event.anchor is not None:
            tree.fault(mark, f"A key cannot carry an anchor ({quoted('&' + event.anchor)}): remove it.")

    def _take_start(self, event: Any) -> None:
        mark = self._mark(event)
        tree = self._tree
        is_mapping = type(event) is MappingStartEvent
        if tree.wants_key:
            tree.fault(mark, "A key is a text; a list or a mapping cannot be one: quote it if it is meant as a text.")
        if event.tag is not None and CORE_TAGS.get(event.tag) != ("map" if is_mapping else "seq"):
            tree.fault(mark, _tag_sentence(event.tag))
        anchor = None
        if event.anchor is not None:
            anchor = self._anchors[event.anchor] = _Anchor()
        self._open.append(anchor)
        tree.open(Mapping({}, mark, {}) if is_mapping else Sequence([], mark))

    def _take_end(self) -> None:
        anchor = self._open.pop()
        node = self._tree.innermost
        size = self._tree.close()
        if anchor is not None:
            anchor.node = node
            anchor.size = size

    def _take_alias(self, event: Any) -> None:
        mark = self._mark(event)
        tree = self._tree
        name = quoted("*" + event.anchor)
        if tree.wants_key:
            tree.bad_key(f"*{event.anchor}", mark, f"An alias ({name}) cannot be a key: write the text itself.")
            return
        anchor = self._anchors.get(event.anchor)
        if anchor is not None and anchor.node is not None:
            tree.graft(anchor.node, anchor.size, mark)
            return
        if anchor is None:
            tree.fault(mark, f"The alias {name} has no anchor before it: quote the value if the star belongs to it.")
        else:
            tree.fault(mark, f"The alias {name} stands inside the value it names: a value cannot hold itself.")
        tree.scalar(None, mark)

    def _take_document(self, event: Any) -> None:
        mark = self._mark(event)
        self._documents += 1
        if self._documents > 1:
            raise self._tree.stopped(mark, "A second document begins here: a file holds one, so split the file.")
        if event.version is not None and tuple(event.version) != (1, 2):
            self._tree.fault(mark, "Documents are read as YAML 1.2: remove the %YAML line.")
        if event.tags:
            self._tree.fault(mark, "%TAG lines are not read here: remove them.")

    def _tagged(self, event: Any, mark: Mark) -> ScalarValue:
        """Resolve a scalar that carries a tag; raise ScalarError when the tag is foreign or does not fit."""
        name = CORE_TAGS.get(event.tag)
        if name is None:
            raise ScalarError(_tag_sentence(event.tag))
        return tagged_value(name, event.value)

    def _mark(self, event: Any) -> Mark:
        start = event.start_mark
        mark = self._last = Mark(start.line + 1, start.column + 1)
        return mark

    def _refuse_tag_lines(self) -> None:
        """Refuse many %TAG lines before parsing: libyaml compares each with each (60,000 took 4 s)."""
        for count, found in enumerate(_TAG_LINE.finditer(self._text), 1):
            if count > TAG_LINES_MAX:
                mark = Mark(self._text.count("\n", 0, found.start()) + 1, 1)
                raise self._tree.stopped(
                    mark, f"More than {TAG_LINES_MAX} lines begin with %TAG, which is not read here: remove them."
                )

    def _unreadable(self, parse: Any) -> DocumentError:
        """Return the error for a parser that failed without saying where; the pure one knows its line and column."""
        mark = Mark(parse.line + 1, parse.column + 1) if isinstance(parse, yaml.SafeLoader) else self._last
        return self._tree.stopped(
            mark, "An escape, a tag or a directive here names nothing that exists: mend or quote it."
        )


def end_of(text: str) -> Mark:
    """Return the place behind the last character of ``text``."""
    lines = re.split(r"\r\n|\r|\n", text)
    return Mark(len(lines), len(lines[-1]) + 1)


def _named(value: ScalarValue, text: str) -> str:
    """Say what a key was read as instead of a text."""
    if value is None:
        return f"{quoted(text)} is read as null" if text else "this one is empty"
    return f"{quoted(text)} is read as {'true or false' if isinstance(value, bool) else 'a number'}"


def _tag_sentence(tag: str) -> str:
    """Say that a tag is refused, in the short form a person writes."""
    short = "!!" + tag.removeprefix(_TAG_PREFIX) if tag.startswith(_TAG_PREFIX) else tag
    return f"The tag {quoted(short)} is not allowed here: remove it, or quote the value if the '!' belongs to it."
