"""Reading a workflow document for a command: the workflow, or its faults as the person's sentences. Floor 11."""

from pathlib import Path

from engine.cli.exits import Ended, ExitCode
from engine.documents.convert import workflow_from_file
from engine.documents.node import DocumentError
from engine.model.language import Language
from engine.model.workflow import Workflow


def read_workflow(path: Path, language: Language) -> Workflow:
    """Read a workflow from a file; raises Ended with all its faults, one a line."""
    try:
        return language.versioned(workflow_from_file(path, language))
    except DocumentError as error:
        raise Ended(ExitCode.DOCUMENT, str(error)) from None
