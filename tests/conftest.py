"""What many tests share: the loaded models, sample people, a site of one door, the evaluation data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from demo.boards import PASSPHRASE, make_fleet
from demo.people import sample_people
from edge.assembly import Eyes, open_eyes
from edge.config import RecognitionConfig
from edge.errors import HadirError
from edge.recognition.manifest import installed_folder
from models.recipe.minifasnet.__main__ import build
from provisioning import keys
from provisioning.fleet import Fleet

# No deadline: machines are shared, and a slow example is no failure. In CI the examples are the
# same for the same code, so that a landing does not hang on luck; elsewhere they are new each time.
settings.register_profile(
    "hadir",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hadir")

pytest_plugins = ["tests.databases"]

People = dict[str, tuple[Path, ...]]


NOBODY = 65534
"""The user without rights, on every Linux."""


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user without rights, also where root runs the tests: to root no permission is denied."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the passphrase of the tests' fleets where an automation would have put it."""
    monkeypatch.setenv(keys.PASSPHRASE, PASSPHRASE)


@pytest.fixture(scope="session")
def eyes() -> Eyes:
    """Detector and default embedder, loaded once a process."""
    return open_eyes(RecognitionConfig())


@pytest.fixture(scope="session")
def people() -> People:
    """Public-domain portraits of two people, by id."""
    try:
        return sample_people()
    except HadirError as error:
        pytest.skip(f"the sample portraits cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def data() -> Path:
    """The evaluation data of real faces and clips."""
    folder = os.environ.get("HADIR_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HADIR_DATA does not name the folder with the evaluation data")
    return Path(folder)


@pytest.fixture(scope="session")
def minifasnet() -> Path:
    """The published weights of the liveness models."""
    folder = os.environ.get("MINIFASNET_DIR", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MINIFASNET_DIR does not name the folder with the liveness weights")
    return Path(folder)


def linked_models(folder: Path) -> Path:
    """The installed models but those for liveness, which not every machine has."""
    for file in installed_folder().iterdir():
        if file.suffix == ".tflite" or file.name == "manifest.toml":
            (folder / file.name).symlink_to(file)
    for made in folder.glob("minifasnet_*"):
        made.unlink()
    return folder


@pytest.fixture
def models_without_liveness(tmp_path: Path) -> Path:
    """Models as they are installed where nobody ran `make liveness`."""
    folder = tmp_path / "models"
    folder.mkdir()
    return linked_models(folder)


@pytest.fixture(scope="session")
def live_models(minifasnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with those for liveness, built as `make liveness` builds them."""
    folder = linked_models(tmp_path_factory.mktemp("models"))
    build(str(minifasnet), folder)
    return folder


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet of two boards, with nobody enrolled."""
    return make_fleet(tmp_path / "fleet", site="hq", devices=["door-01", "door-02"])
