"""What a person asked, and how to ask for more of it. Tests: engine/cli/request.py"""

from pathlib import Path

import pytest

from engine.cli.request import Request


@pytest.mark.parametrize(
    ("request_", "options", "line"),
    [
        (Request(Path("w.yaml")), (), "python -m engine run w.yaml"),
        (Request(Path("my w.yaml")), (), "python -m engine run 'my w.yaml'"),
        (
            Request(Path("w.yaml"), Path("/srv/state"), ("a=1",), order="o-1"),
            ("--release", "rerun"),
            "python -m engine run w.yaml --state /srv/state --id o-1 --release rerun",
        ),
        (Request(Path("w.yaml"), program="understudy"), (), "understudy run w.yaml"),
    ],
)
def test_the_command_that_goes_on(request_: Request, options: tuple[str, ...], line: str) -> None:
    assert request_.again(*options) == line
