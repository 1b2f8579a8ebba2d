"""The pages for users tell the truth: every example loads, every faulty one gives the faults that are shown.

* A ```yaml block is a document, or a list of steps. A ```yml block is refused with the ```text block behind it.
* A ```python block runs.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.documents.convert import workflow_from_text
from engine.documents.convert_forms import Shapes
from engine.documents.node import DocumentError
from engine.documents.printer import workflow_yaml
from engine.language import standard_language
from engine.model.workflow import ParameterType, Workflow

LANGUAGE = standard_language()
DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("workflows.md", "instructions.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, int]]:
    """Language, text and line of each block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in BLOCK.finditer(text)]


def examples(language: str) -> list[Any]:
    return [
        pytest.param(page, text, id=f"{page}:{line}")
        for page in PAGES
        for kind, text, line in blocks(page)
        if kind == language
    ]


def whole(text: str) -> str:
    return f"name: example\nsteps:\n{text}" if text.startswith("- ") else text


@pytest.mark.parametrize(("page", "text"), examples("yaml"))
def test_an_example_loads_and_prints(page: str, text: str) -> None:
    workflow = workflow_from_text(whole(text), LANGUAGE, file=page)
    assert workflow_from_text(workflow_yaml(workflow, LANGUAGE), LANGUAGE) == workflow


def test_a_faulty_example_gives_the_faults_that_are_shown() -> None:
    found = blocks("workflows.md")
    faulty = [number for number, (language, _, _) in enumerate(found) if language == "yml"]
    assert faulty
    for number in faulty:
        with pytest.raises(DocumentError) as caught:
            workflow_from_text(found[number][1], LANGUAGE, file="wrong.yaml")
        assert found[number + 1][:2] == ("text", f"{caught.value}\n")


@pytest.mark.parametrize(("page", "text"), examples("python"))
def test_a_program_runs_and_gives_a_workflow(page: str, text: str) -> None:
    names: dict[str, Any] = {"__name__": "docs_example"}
    exec(compile(text, page, "exec"), names)
    built = [value for value in names.values() if isinstance(value, Workflow)]
    assert built
    for workflow in built:
        assert workflow_from_text(workflow_yaml(workflow, LANGUAGE), LANGUAGE) == LANGUAGE.versioned(workflow)


def test_the_first_program_is_the_first_document() -> None:
    document, program = (
        next(text for kind, text, _ in blocks("workflows.md") if kind == one) for one in ("yaml", "python")
    )
    names: dict[str, Any] = {}
    exec(program, names)
    assert LANGUAGE.versioned(names["report"]) == workflow_from_text(document, LANGUAGE)


def sections() -> dict[str, str]:
    text = (DOCS / "instructions.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `(\w+)`$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_instruction_has_its_section_with_every_key_and_no_other() -> None:
    shapes = Shapes(LANGUAGE)
    assert set(sections()) == set(shapes.steps)
    for keyword, section in sections().items():
        shape = shapes.step(keyword)
        rows = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
        kinds = list(shapes.jobs) if shape.job else []
        assert sorted(rows) == sorted([*shape.fields, *kinds]), keyword
        assert "```yaml" in section, keyword


def test_every_key_of_a_document_and_type_of_a_parameter_is_told() -> None:
    text = (DOCS / "workflows.md").read_text(encoding="utf-8")
    for key in ("name", "version", "description", "agent", "parameters", "jobs", "results", "steps"):
        assert f"\n| `{key}` | " in text
    for kind in ParameterType:
        assert f"`{kind}`" in text
