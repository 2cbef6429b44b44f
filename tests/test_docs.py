"""The documents say what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_configuration_page_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "docs/reference.py"))["configuration"]()
    assert (ROOT / "docs/configuration.md").read_text() == made, "run `make docs`"


def test_every_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    for target in ("demo", "test", "develop", "check"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


def test_every_document_that_the_readme_links_to_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    links = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
