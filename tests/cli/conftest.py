"""Verbs run in this process, as the console script runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshdns.cli.main import main
from tests.cli import keeping


@dataclass(frozen=True)
class Said:
    """What a verb printed, and its exit code."""

    code: int
    out: str
    err: str


Meshdns = Callable[..., Said]


@pytest.fixture
def meshdns(capsys: pytest.CaptureFixture[str]) -> Meshdns:
    """Give ``meshdns`` as a function of its words."""

    def run(*words: Any) -> Said:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data directory with the usual store; read only."""
    return keeping.usual(tmp_path_factory.mktemp("kept"))
