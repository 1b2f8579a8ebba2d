"""Convert: a document's tree becomes a workflow, or all its faults at once, each with its place. Floor 5.

* Nothing is dropped and nothing guessed: a key is read or it is a fault.
* What the language knows decides (its instructions and kinds of jobs); no name of them stands here.
* What the rules say against the workflow (`engine.rules.check`) is told at the step it is about.
"""

from pathlib import Path as FilePath
from typing import Any

from engine.documents.convert_faults import Faults, Path, Source, meant, sentence_of, what
from engine.documents.convert_forms import Form, Named, Shapes
from engine.documents.convert_steps import Place, Steps
from engine.documents.convert_values import BAD
from engine.documents.loader import Kind, load_file, load_text
from engine.documents.node import Mapping, Node, printable, quoted
from engine.documents.tree import DOCUMENT_BYTES_MAX
from engine.model.instruction import Instruction
from engine.model.language import Language
from engine.model.workflow import Workflow
from engine.rules.check import workflow_faults

_JOBS = "jobs"
_REQUIRED = ("name", "steps")
_KEYS = ("name", "version", "description", "agent", "parameters", _JOBS, "results", "steps")
_UNNAMED = "unnamed"  # while a document without a name is searched for further faults


def workflow_from_file(path: FilePath, language: Language) -> Workflow:
    """Read a workflow from a YAML or JSON file; raises DocumentError. Synchronous: a loop calls it in a thread."""
    node = load_file(path)

    def read() -> bytes | None:
        # Only to say more exactly where something stands; whether it fits the tree is looked at each time.
        try:
            with path.open("rb") as opened:
                return opened.read(DOCUMENT_BYTES_MAX)
        except OSError:
            return None

    return _Conversion(language, Faults(printable(str(path)), Source(read))).workflow(node)


def workflow_from_text(
    text: str | bytes, language: Language, *, file: str = "<text>", kind: Kind | None = None
) -> Workflow:
    """Read a workflow from a YAML or JSON text; `file` is its name in faults. Raises DocumentError."""
    return workflow_from_node(load_text(text, file=file, kind=kind), language, file=file, text=text)


def workflow_from_node(node: Node, language: Language, *, file: str, text: str | bytes | None = None) -> Workflow:
    """Read a workflow from a loaded tree; raises DocumentError with all faults, in the order of the text.

    `text` is what the tree was loaded from. With it a fault inside an expression has its own column, and a number that
    stands for a text and is not written as it is read (`010`, `1.10`) is refused instead of taken as read.
    """
    return _Conversion(language, Faults(file, Source(lambda: text))).workflow(node)


class _Conversion:
    """One pass over one document."""

    def __init__(self, language: Language, faults: Faults) -> None:
        self._language = language
        self._faults = faults
        self._shapes = Shapes(language)
        self._steps = Steps(self._shapes, faults)

    def workflow(self, node: Node) -> Workflow:
        if not isinstance(node, Mapping):
            sentence = f"A workflow is a mapping with the keys name and steps, not {what(node)}."
            self._faults.add(node.mark, None, sentence)
            self._faults.stop()
        if _JOBS in node.value:
            self._steps.define(node.value[_JOBS], (None, _JOBS))
        values = self._values(node)
        workflow = Workflow(**{"name": _UNNAMED, "version": "", "steps": (), **values})
        self._check(workflow, node)
        if self._faults:
            self._faults.stop()
        return self._language.versioned(workflow)

    def _values(self, node: Mapping) -> dict[str, Any]:
        """Return the fields of the workflow that could be read."""
        fields = self._shapes.of(Workflow).fields
        values: dict[str, Any] = {}
        for key, inner in node.value.items():
            if key == _JOBS:
                continue
            if key not in _KEYS:
                hint = meant(key, _KEYS, f"; known are {', '.join(_KEYS)}")
                self._faults.add(node.keys[key], (None, key), f"There is no key {quoted(key)} in a workflow{hint}")
                continue
            value = self._value(fields[key].form, inner, (None, key))
            if value is not BAD:
                values[key] = value
        for key in _REQUIRED:
            if key not in node.value:
                self._faults.add(node.mark, None, f"The key {quoted(key)} is missing: a workflow needs it.")
        return values

    def _value(self, form: Form, node: Node, path: Path) -> Any:
        """Read a field of the workflow; of a mapping what is right is kept, so that the rules can judge it too."""
        if isinstance(form, Named) and isinstance(node, Mapping):
            read = {key: self._steps.read(form.item, inner, (path, key)) for key, inner in node.value.items()}
            return {key: value for key, value in read.items() if value is not BAD}
        return self._steps.read(form, node, path)

    def _check(self, workflow: Workflow, node: Mapping) -> None:
        """Tell what the rules say against the workflow, each at its place."""
        sentences = workflow_faults(workflow)
        if not sentences:
            return
        steps = _steps_by_text(workflow)
        for sentence in sentences:
            step, rest = _about(sentence, steps)
            place = _place_of(sentence, workflow, node) if step is None else self._steps.places[id(step)]
            self._faults.add(place.mark, place.path, sentence_of(rest))


def _steps_by_text(workflow: Workflow) -> dict[str, Instruction]:
    """Return the instructions by the text of their positions, as sentences of the check begin."""
    return {"/".join(map(str, position)): step for position, step in workflow.instructions()}


def _about(sentence: str, steps: dict[str, Instruction]) -> tuple[Instruction | None, str]:
    """Return the step a sentence of the check begins with, `step 2/then/0: …`, and the rest of the sentence.

    A branch's name may hold anything, blanks and colons too: that is what the sentence may be about.
    """
    start = "step "
    if sentence.startswith(start):
        for end in (place for place, char in enumerate(sentence) if char in ": "):
            step = steps.get(sentence[len(start) : end])
            if step is not None:
                return step, sentence[end:].lstrip(": ")
    return None, sentence


def _place_of(sentence: str, workflow: Workflow, node: Mapping) -> Place:
    """Return where a sentence about the whole workflow belongs: at the parameter it names, the agent, or the name."""
    parameters = node.value.get("parameters")
    if isinstance(parameters, Mapping) and "parameter" in sentence:
        for name in workflow.parameters:
            if repr(name) in sentence:
                return Place(parameters.keys[name], ((None, "parameters"), name))
    for key in ("agent", "name"):
        if key in node.value and (key == "name" or "agent's name" in sentence):
            return Place(node.value[key].mark, (None, key))
    return Place(node.mark, None)
