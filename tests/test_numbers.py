"""Every number of recognition and of its evaluation says what it is: its unit, and where it comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "edge/recognition").glob("*.py")) + sorted((ROOT / "edge/evaluate").glob("*.py"))
SETTINGS = ("RecognitionConfig", "QualityConfig", "TrackConfig", "DecideConfig", "LivenessConfig")


def has_number(value: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Constant) and type(node.value) in {int, float} for node in ast.walk(value)
    )


def is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def unexplained(body: list[ast.stmt]) -> Iterator[str]:
    """Numbers that no text follows; constants that stand together, line below line, share one."""
    for statement, after in pairwise([*body, ast.Pass(lineno=-1)]):
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        together = (
            isinstance(after, ast.Assign)
            and after.lineno == (statement.end_lineno or 0) + 1
            and has_number(after.value)
        )
        if has_number(statement.value) and not is_text(after) and not together:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            yield ast.unparse(target)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_number_of_a_module_is_explained(path: Path) -> None:
    assert list(unexplained(ast.parse(path.read_text()).body)) == []


@pytest.mark.parametrize("section", SETTINGS)
def test_every_number_that_can_be_set_is_explained(section: str) -> None:
    body = ast.parse((ROOT / "edge/config.py").read_text()).body
    (found,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == section)
    assert list(unexplained(found.body)) == []


def test_a_number_without_a_word_would_be_noticed() -> None:
    assert list(unexplained(ast.parse('A = 1\nB = 2\n"""Both."""\nC = 3\nD = "x"\n').body)) == ["C"]
