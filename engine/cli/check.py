"""`check FILE…`: everything that is wrong with workflow documents, without running anything. Floor 11."""

from pathlib import Path
from typing import Any

import click

from engine.cli.exits import ExitCode
from engine.cli.face import Face
from engine.cli.output import debug_option, output_option, write_json

EPILOG = """\b
Examples:
  python -m engine check workflow.yaml
  python -m engine check flows/*.yaml --output json

Exit codes: 0 all are right, 78 at least one is wrong."""


@click.command("check", epilog=EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
@debug_option
@click.pass_obj
def command(face: Face, files: tuple[Path, ...], output: str) -> int:
    """Load workflow documents and say every fault, as `file:line:column: path: sentence`."""
    from engine.language import standard_language

    language = standard_language()
    found = [_checked(path, language) for path in files]
    if output == "json":
        write_json(face, {"ok": all(one["ok"] for one in found), "files": found})
    else:
        for one in found:
            _say(face, one)
    return ExitCode.FINISHED if all(one["ok"] for one in found) else ExitCode.DOCUMENT


def _checked(path: Path, language: Any) -> dict[str, Any]:
    from engine.documents.convert import workflow_from_file
    from engine.documents.node import DocumentError, printable

    file = printable(str(path))
    try:
        workflow = workflow_from_file(path, language)
    except DocumentError as error:
        faults = [
            {
                "line": fault.mark.line or None,
                "column": fault.mark.column or None,
                "path": fault.path,
                "sentence": fault.sentence,
                "text": str(fault),
            }
            for fault in error.faults
        ]
        return {"file": file, "ok": False, "faults": faults}
    steps = sum(1 for _ in workflow.instructions())
    return {
        "file": file,
        "ok": True,
        "workflow": workflow.name,
        "version": workflow.version,
        "steps": steps,
        "faults": [],
    }


def _say(face: Face, found: dict[str, Any]) -> None:
    for fault in found["faults"]:
        face.out(fault["text"])
    if found["ok"]:
        face.out(f"{found['file']}: ok, {found['steps']} {'step' if found['steps'] == 1 else 'steps'}")
