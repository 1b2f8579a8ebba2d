"""The golden transcripts of tests/flows, compared; written anew by `make flows-rewrite` and reviewed as a diff.

Tests: engine/rules/flow.py, engine/rules/statement.py, engine/rules/instructions/case.py
Tests: engine/rules/instructions/fail.py, engine/rules/instructions/finish.py, engine/rules/instructions/fork.py
Tests: engine/rules/instructions/fork_list.py
Tests: engine/rules/instructions/if_.py, engine/rules/instructions/job.py, engine/rules/instructions/retry.py
Tests: engine/rules/instructions/sleep.py, engine/rules/instructions/try_.py
"""

import difflib
import os
import re
from functools import cache
from pathlib import Path

import pytest

from engine.language import standard_language
from engine.model.order import TRANSITIONS, OrderState
from tests.support.transcript import Transcript, play

FLOWS = sorted(Path(__file__).parent.parent.joinpath("flows").glob("*.txt"))
REWRITE = bool(os.environ.get("UNDERSTUDY_REWRITE"))


@cache
def played(path: Path) -> tuple[str, Transcript]:
    return play(path.read_text())


@pytest.mark.parametrize("path", FLOWS, ids=[path.stem for path in FLOWS])
def test_flow(path: Path) -> None:
    known = path.read_text()
    found, _ = played(path)
    if found == known:
        return
    if REWRITE:
        path.write_text(found)
        return
    changes = difflib.unified_diff(known.splitlines(), found.splitlines(), path.name, "as it would be", lineterm="")
    pytest.fail("\n".join(changes) + "\nIs this right? Then `make flows-rewrite`, and review the difference.")


def test_the_flows_show_every_instruction_and_every_event_of_an_order() -> None:
    texts = [path.read_text() for path in FLOWS]
    keywords: set[str] = set()
    for path in FLOWS:
        _, transcript = played(path)
        keywords |= {step.keyword for workflow in transcript.workflows for _, step in workflow.instructions()}
    assert keywords == set(standard_language().instructions.keywords)
    words = {word for text in texts for word in text.split()}
    adopted_only = {"OrderBroken"}  # a mistake of ours; tests/rules/test_adoption.py
    assert {kind for kind in TRANSITIONS if kind not in words} == adopted_only
    looked_at = re.findall(r"^\S+ is (\w+) at ", "\n".join(texts), re.MULTILINE)
    assert set(looked_at) == {state.value for state in OrderState} - {OrderState.BROKEN.value}


def test_a_transcript_that_differs_is_told() -> None:
    text = "workflow\nname: w\nsteps: [{sleep: 1s}]\n----\n\nadd o\n----\ncontroller OrderAdded x\n"
    found, _ = play(text)
    assert found != text
    assert play(found)[0] == found


def test_remarks_and_commands_are_kept_and_what_was_caused_is_not() -> None:
    text = "# What it is.\n\n# Why.\nanswers a=failed/3\n----\nnothing like this\n\nanswers\n----\n"
    assert play(text)[0] == "# What it is.\n\n# Why.\nanswers a=failed/3\n----\n\nanswers\n----\n"


def test_a_command_nobody_knows() -> None:
    with pytest.raises(AttributeError, match="do_dance"):
        Transcript().run("dance")
