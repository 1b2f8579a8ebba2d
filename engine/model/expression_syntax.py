"""The syntax of expressions: a text becomes a tree of nodes, or an ExpressionError at a column. Floor 2.

* The language is a part of CEL's grammar: what is read here, CEL reads the same way.
* Nothing recurses deeper than NESTING_MAX: neither this parser nor whoever walks the tree.
* A run of one operator (`a + b + c`, `a && b && c`) is one node with many parts, so long sums are not deep.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from engine.model.expression_values import INT_MAX, ExpressionError, Value

SOURCE_CHARACTERS_MAX = 10_000
NESTING_MAX = 50

Kind: TypeAlias = Literal[
    "constant", "name", "list", "map", "field", "has", "index", "call", "method", "macro",
    "not", "negate", "arithmetic", "relation", "and", "or", "choice",
]  # fmt: skip


class Node:
    """One construct of an expression.

    `text` is the name, field, function, macro or operator (one character for each `+ - * / %` of a run), `constant` the
    value of a literal, `bound` the loop variable of a macro. `parts` are the nodes below in the order of the text: a
    macro's or method's first one is what stands before the dot, a map's are key, value, key, value. `columns` places
    each operator of a run. `size` counts the nodes of the whole tree, `depth` its levels.
    """

    depth: int
    size: int

    __slots__ = ("bound", "column", "columns", "constant", "depth", "kind", "parts", "size", "text")

    def __init__(
        self,
        kind: Kind,
        column: int,
        parts: tuple["Node", ...] = (),
        text: str = "",
        constant: Value = None,
        bound: str = "",
        columns: tuple[int, ...] = (),
    ) -> None:
        """Make a node over its parts; whoever builds one keeps `depth` within NESTING_MAX."""
        self.kind = kind
        self.column = column
        self.parts = parts
        self.text = text
        self.constant = constant
        self.bound = bound
        self.columns = columns
        self.depth = 1 + max([part.depth for part in parts], default=0)
        self.size = 1 + sum([part.size for part in parts])

    def __repr__(self) -> str:
        return f"Node({self.kind!r}, {self.text or self.bound or self.constant!r}, {self.parts!r})"


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


PRECEDENCE: Final[dict[str, int]] = {
    "||": 1, "&&": 2,
    "<": 3, "<=": 3, ">": 3, ">=": 3, "==": 3, "!=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
_RELATION: Final = 3
_LITERALS: Final[dict[str, Value]] = {"true": True, "false": False, "null": None}
_KEYWORDS: Final = frozenset({"true", "false", "null", "in"})
RESERVED: Final = _KEYWORDS | {
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "namespace",
    "package", "return", "var", "void", "while",
}  # fmt: skip
MACROS: Final[dict[str, tuple[int, ...]]] = {  # name: how many arguments it may have
    "all": (2,),
    "exists": (2,),
    "exists_one": (2,),
    "filter": (2,),
    "map": (2, 3),
}
_HINTS: Final[dict[str, str]] = {
    "and": "write && for 'and'",
    "or": "write || for 'or'",
    "not": "write ! for 'not'",
    "if": "write condition ? one : other for 'if'",
    "=": "write == to compare",
    "&": "write && for 'and'",
    "|": "write || for 'or'",
}

# Each alternative begins differently or is ordered longest first, and no repeat can be split in two ways: linear time.
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\n\f\r]+|//[^\n]*)
    |(?P<bytes>(?:[bB][rR]?|[rR][bB])(?=["']))
    |(?P<raw>[rR](?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"(?!"")[^"\n\r]*"|'(?!'')[^'\n\r]*'))
    |(?P<string>\"{3}(?:[^"\\]|\\[\s\S]|"(?!""))*\"{3}|'{3}(?:[^'\\]|\\[\s\S]|'(?!''))*'{3}
        |"(?!"")[^"\\\n\r]*(?:\\.[^"\\\n\r]*)*"|'(?!'')[^'\\\n\r]*(?:\\.[^'\\\n\r]*)*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<float>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<operator>\|\||&&|[=!<>]=|[-!+*/%<>?:.,()\[\]{}])
    |(?P<error>[\s\S])""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(
    r"\\(?:([0-3][0-7]{2})|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
}  # fmt: skip
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse(source: str) -> Node:
    """Read a whole text as one expression; raises ExpressionError."""
    if len(source) > SOURCE_CHARACTERS_MAX:
        raise ExpressionError(f"the expression is longer than {SOURCE_CHARACTERS_MAX} characters", 1, source)
    parser = _Parser(source)
    node = parser.expression()
    parser.expect("")
    return node


def closing_brace(source: str, start: int) -> int:
    """Find the `}` that ends the expression beginning at index `start`, past those in its strings and maps.

    Raises ExpressionError when there is none.
    """
    opened = 0
    for match in _TOKEN.finditer(source, start):
        if match.lastgroup == "error":
            raise _unreadable(match, source)
        text = match[0]
        if text == "{":
            opened += 1
        elif text == "}":
            if opened == 0:
                return match.start()
            opened -= 1
    raise ExpressionError("the ${ that begins here is never closed by }", start - 1, source)


def refuse_surrogates(source: str) -> None:
    """Raise ExpressionError for a text with half a character in it, which no file and no message can hold."""
    if not source.isascii() and (match := _SURROGATE.search(source)):
        raise ExpressionError("half a surrogate pair is not a character", match.start() + 1, source)


class _Parser:
    """One pass over the tokens. Brackets recurse, operators do not."""

    def __init__(self, source: str) -> None:
        refuse_surrogates(source)
        self.source = source
        self.level = 0
        self.place = 0
        self.tokens: list[_Token] = []
        for match in _TOKEN.finditer(source):
            kind = match.lastgroup or ""
            if kind == "error":
                raise _unreadable(match, source)
            if kind != "space":
                self.tokens.append(_Token(kind, match[0], match.start() + 1))
        self.tokens.append(_Token("end", "", len(source) + 1))

    def expression(self) -> Node:
        """Read `a`, or `a ? b : c` where c may be another of these."""
        self.level += 1
        if self.level > NESTING_MAX:
            raise self.wrong(f"the expression is nested more than {NESTING_MAX} deep")
        node = self.operation()
        if self.tokens[self.place].text == "?":
            column = self.advance().column
            one = self.operation()
            self.expect(":")
            node = self.made(Node("choice", column, (node, one, self.expression())))
        self.level -= 1
        return node

    def operation(self) -> Node:
        """Read operands and two-sided operators; the open runs are a stack whose precedence rises to the right."""
        runs: list[tuple[int, list[Node], list[_Token]]] = []
        operand = self.unary()
        while True:
            token = self.tokens[self.place]
            precedence = PRECEDENCE.get(token.text, 0)
            while runs and (runs[-1][0] > precedence or runs[-1][0] == precedence == _RELATION):
                _, parts, operators = runs.pop()
                operand = self.run([*parts, operand], operators)
            if not precedence:
                return operand
            self.place += 1
            if runs and runs[-1][0] == precedence:
                runs[-1][1].append(operand)
                runs[-1][2].append(token)
            else:
                runs.append((precedence, [operand], [token]))
            operand = self.unary()

    def run(self, parts: list[Node], operators: list[_Token]) -> Node:
        """Make the node of a finished run of operators of one precedence."""
        text, column = operators[0].text, operators[0].column
        if text == "||":
            return self.made(Node("or", column, tuple(parts)))
        if text == "&&":
            return self.made(Node("and", column, tuple(parts)))
        if PRECEDENCE[text] == _RELATION:
            return self.made(Node("relation", column, tuple(parts), text))
        signs = "".join([token.text for token in operators])
        columns = tuple([token.column for token in operators])
        return self.made(Node("arithmetic", column, tuple(parts), signs, columns=columns))

    def unary(self) -> Node:
        """Read a run of `!` or of `-` and what stands behind it; a single `-` belongs to a number that follows."""
        first = self.tokens[self.place]
        if first.text not in ("!", "-"):
            return self.member(self.primary())
        signs = [self.advance().column]
        while self.tokens[self.place].text == first.text:
            signs.append(self.advance().column)
        if first.text == "-" and len(signs) == 1 and self.tokens[self.place].kind in ("int", "float"):
            return self.member(self.number(self.advance(), negative=True))
        node = self.member(self.primary())
        for column in reversed(signs):
            node = self.made(Node("not" if first.text == "!" else "negate", column, (node,)))
        return node

    def member(self, node: Node) -> Node:
        """Read the `.field`, `.method(…)` and `[index]` that follow a value."""
        while True:
            token = self.tokens[self.place]
            if token.text == "[":
                self.place += 1
                node = self.made(Node("index", token.column, (node, self.expression())))
                self.expect("]")
            elif token.text == ".":
                self.place += 1
                field = self.advance()
                if field.kind != "name" or field.text in _KEYWORDS:
                    raise self.wrong("expected a field or method after '.'", field)
                if self.tokens[self.place].text == "(":
                    node = self.method(node, field)
                else:
                    node = self.made(Node("field", field.column, (node,), field.text))
            else:
                return node

    def method(self, target: Node, name: _Token) -> Node:
        """Read a method's or a macro's arguments."""
        arguments = self.listed("(", ")")
        if name.text not in MACROS:
            return self.made(Node("method", name.column, (target, *arguments), name.text))
        if len(arguments) not in MACROS[name.text]:
            steps = "an optional condition and an expression" if name.text == "map" else "a condition"
            raise self.wrong(f"{name.text}() takes a loop variable and {steps}", name)
        variable = arguments[0]
        if variable.kind != "name":
            raise self.wrong(f"the first argument of {name.text}() is the name of a loop variable", variable)
        return self.made(Node("macro", name.column, (target, *arguments[1:]), name.text, bound=variable.text))

    def primary(self) -> Node:
        """Read a literal, a name, a call, a list, a map, or an expression in parentheses."""
        token = self.advance()
        if token.kind in ("int", "float"):
            return self.number(token)
        if token.kind in ("string", "raw"):
            return Node("constant", token.column, constant=self.string(token))
        if token.kind == "name":
            return self.named(token)
        if token.text == "(":
            node = self.expression()
            self.expect(")")
            return node
        if token.text == "[":
            self.place -= 1
            return self.made(Node("list", token.column, tuple(self.listed("[", "]", comma_last=True))))
        if token.text == "{":
            return self.map(token)
        if token.kind == "bytes":
            raise self.wrong("byte strings are not supported", token)
        if token.kind == "end" and self.place == 1:
            raise self.wrong("the expression is empty", token)
        raise self.wrong("expected a value", token)

    def named(self, token: _Token) -> Node:
        """Read `true`, a variable, or a call; `has(m.field)` is a construct of its own."""
        if token.text in _LITERALS:
            return Node("constant", token.column, constant=_LITERALS[token.text])
        if token.text in RESERVED:
            raise self.wrong("expected a value", token, f"{token.text!r} is a reserved word")
        if self.tokens[self.place].text != "(":
            return Node("name", token.column, text=token.text)
        arguments = self.listed("(", ")")
        if token.text != "has":
            return self.made(Node("call", token.column, tuple(arguments), token.text))
        if len(arguments) != 1 or arguments[0].kind != "field":
            raise self.wrong("has() takes one field, as in has(order.name)", token)
        return Node("has", token.column, arguments[0].parts, arguments[0].text)

    def listed(self, opening: str, closing: str, *, comma_last: bool = False) -> Sequence[Node]:
        """Read expressions between brackets, separated by commas."""
        self.expect(opening)
        nodes: list[Node] = []
        while self.tokens[self.place].text != closing:
            if nodes:
                self.expect(",", closing)
                if comma_last and self.tokens[self.place].text == closing:
                    break
            nodes.append(self.expression())
        self.place += 1
        return nodes

    def map(self, opening: _Token) -> Node:
        """Read `key: value` pairs up to the closing brace."""
        nodes: list[Node] = []
        while self.tokens[self.place].text != "}":
            if nodes:
                self.expect(",", "}")
                if self.tokens[self.place].text == "}":
                    break
            nodes.append(self.expression())
            self.expect(":")
            nodes.append(self.expression())
        self.place += 1
        return self.made(Node("map", opening.column, tuple(nodes)))

    def number(self, token: _Token, *, negative: bool = False) -> Node:
        """Make the constant of a number; its column is the digits'."""
        following = self.tokens[self.place]
        if following.text in ("u", "U") and following.column == token.column + len(token.text):
            raise self.wrong("unsigned numbers are not supported", token)
        if token.kind == "float":
            real = float(token.text)
            if real == float("inf"):
                raise self.wrong("the number is too large for a double", token)
            return Node("constant", token.column, constant=-real if negative else real)
        hexadecimal = token.text.startswith("0x")
        digits = token.text[2:].lstrip("0") if hexadecimal else token.text.lstrip("0")
        number = int(digits[:20] or "0", 16 if hexadecimal else 10)
        if len(digits) > 20 or number > INT_MAX + negative:
            raise self.wrong("the number is beyond 64 bits", token)
        return Node("constant", token.column, constant=-number if negative else number)

    def string(self, token: _Token) -> str:
        """Give the characters that a string literal stands for."""
        text = token.text[1:] if token.kind == "raw" else token.text
        quotes = 3 if text[:3] in ('"""', "'''") else 1
        inside = text[quotes:-quotes]
        if token.kind == "raw" or "\\" not in inside:
            return inside

        def character(match: re.Match[str]) -> str:
            octal, two, four, eight, single = match.groups()
            if single is None:
                code = int(octal, 8) if octal else int(two or four or eight, 16)
                if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                    return chr(code)
            elif single in _ESCAPED:
                return _ESCAPED[single]
            at = _Token("string", match[0], token.column + quotes + match.start())
            raise self.wrong(f"a string cannot hold {match[0].strip()}", at, "write \\\\ for one backslash")

        return _ESCAPE.sub(character, inside)

    def advance(self) -> _Token:
        """Take the next token; at the end it is the end again and again."""
        token = self.tokens[self.place]
        self.place += 1
        if token.kind == "end":
            self.tokens.append(token)
        return token

    def expect(self, text: str, otherwise: str = "") -> None:
        """Take this very token, or raise."""
        token = self.tokens[self.place]
        if token.text != text:
            wanted = f"{text!r} or {otherwise!r}" if otherwise else repr(text) if text else "an operator or the end"
            raise self.wrong(f"expected {wanted}", token)
        self.place += 1

    def made(self, node: Node) -> Node:
        """Check the depth of a new node."""
        if node.depth > NESTING_MAX:
            raise self.wrong(f"the expression is nested more than {NESTING_MAX} deep", node)
        return node

    def wrong(self, message: str, at: Node | _Token | None = None, why: str = "") -> ExpressionError:
        """Make the error at a node or token; for "expected …" it tells what was found there instead."""
        at = at or self.tokens[self.place]
        if isinstance(at, _Token) and message.startswith("expected"):
            found = {"end": "the end", "string": "a string", "raw": "a string"}.get(at.kind) or repr(at.text[:40])
            message = f"{message}, found {found}"
            before = self.tokens[max(self.place - 1, 0)].text
            why = _HINTS.get(at.text) or _HINTS.get(before) or why
        return ExpressionError(f"{message}; {why}" if why else message, at.column, self.source)


def _unreadable(match: re.Match[str], source: str) -> ExpressionError:
    """Make the error for a character with which nothing begins."""
    if match[0] in ("'", '"'):
        return ExpressionError("the string that begins here is never closed", match.start() + 1, source)
    hint = _HINTS.get(match[0])
    message = f"the character {match[0]!r} has no meaning here"
    return ExpressionError(f"{message}; {hint}" if hint else message, match.start() + 1, source)
