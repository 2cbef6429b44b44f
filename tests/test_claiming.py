"""A claim that is cut off at any step goes on, ends in one identity, and can be read through the door's camera."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.fleet_broker import Keeper
from edge.camera.qr import read_qr, watch_for
from edge.check import papers
from edge.check.findings import Verdict
from edge.claiming import keep_claim, staged
from edge.config import CameraConfig, load_config
from edge.errors import InputError, KeyFileError, TokenRefused
from edge.records import Image
from edge.steps import IdentityStep
from edge.trust.admission import Purpose
from edge.trust.claim import Claim
from edge.trust.protect import SEALED_MARK, Unsealed
from provisioning.claims import add_claim, add_device, approve, receive_request
from provisioning.fleet import Fleet
from provisioning.qr import qr_code, terminal_text, write_picture
from tests.claiming import LISTENER, NOW_S, Board, let_in, new_fleet
from tests.cuts import Cut, cut_once
from tests.quietly import wait_for

CLAIM = Claim.new("k3v8abcdef", broker="192.168.178.20:8884", server="P" * 21 + "A", fleet="F" * 43)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = new_fleet(tmp_path / "fleet")
    yield made
    made.registry.close()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board.blank(tmp_path / "board")


POINTS = (
    IdentityStep.CLAIM_KEPT,
    IdentityStep.KEY_MADE,
    IdentityStep.SEALING_KEY_MADE,
    IdentityStep.ANSWERED,
    IdentityStep.CERTIFICATE_WRITTEN,
    IdentityStep.KEYS_STORED,
    IdentityStep.AUTHORITIES_STORED,
    IdentityStep.STAGED,
    IdentityStep.CONFIGURATION_WRITTEN,
    IdentityStep.ACTIVATED,
    IdentityStep.CLEANED,
    IdentityStep.CLAIM_FORGOTTEN,
)


@pytest.mark.parametrize("point", POINTS)
def test_a_claim_that_is_cut_off_goes_on_and_ends_in_one_identity(
    fleet: Fleet, board: Board, point: IdentityStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S)

    def go() -> None:
        received = receive_request(fleet, claim.id, board.request(claim), NOW_S).claim
        answer = received.response or approve(fleet, claim.id, listener=LISTENER, now_s=NOW_S).response
        assert answer is not None
        board.install(answer)

    cut_once(monkeypatch, point)
    with pytest.raises(Cut):
        go()
    if point is not IdentityStep.CLAIM_FORGOTTEN:  # that one is the last: there is nothing left to do
        identity = board.store.named(f"claim-{claim.id}")
        if staged(identity):  # then nobody is asked any more
            board.install(b"")
        else:
            go()
    (key,) = fleet.registry.device_keys("door-01")
    assert board.current.signing_key().kid == key.kid
    assert load_config(board.places.config).device.id == "door-01"


def tortured(*options: str) -> subprocess.CompletedProcess[str]:
    """`make torture-identity` with one life."""
    done = subprocess.run(
        [sys.executable, "-m", "torture.identity", "--lives", "1", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if "mosquitto is not installed" in done.stderr:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    return done


@pytest.mark.parametrize(
    ("scene", "step"), [("claim", "staged"), ("desk", "approved"), ("stick", "approved")]
)
def test_a_board_killed_in_earnest_goes_on_where_it_was(scene: str, step: str) -> None:
    """The same with SIGKILL, over Mosquitto; all points: `make torture-identity`."""
    done = tortured("--scene", scene, "--at", step)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 deaths at 1 points, 0 problems" in done.stdout


def test_the_torture_finds_a_claim_that_was_certified_twice() -> None:
    """It can fail; with each error that can be built in: docs/figures.md."""
    done = tortured("--scene", "claim", "--at", "asked", "--mutation", "certify-again")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 certificates are good" in done.stdout


def test_a_broker_that_falls_is_started_again_and_counted(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        keeper = Keeper((sys.executable, "-c", "raise SystemExit(3)"), log)
    first = keeper.process
    with keeper:
        wait_for(lambda: keeper.falls >= 2)
    keeper.stop()
    assert first.returncode == 3
    assert keeper.process is not first


def held_up(size_px: int = 300, noise: float = 12.0) -> Image:
    """A telephone with the code on it, before a noisy 640×480 camera."""
    code = np.array(list(qr_code(CLAIM).matrix_iter(border=4)), dtype=np.uint8)
    scale = size_px // len(code)
    picture = np.full((480, 640), 90, dtype=np.float32)
    drawn = np.kron(255.0 * (1 - code), np.ones((scale, scale)))
    top, left = (480 - len(drawn)) // 2, (640 - len(drawn)) // 3
    picture[top : top + len(drawn), left : left + len(drawn)] = drawn
    random = np.random.default_rng(7)
    noisy = cv2.GaussianBlur(picture, (3, 3), 0) + random.normal(0, noise, picture.shape)
    grey = np.clip(noisy, 0, 255).astype(np.uint8)
    coloured: Image = np.repeat(grey[:, :, None], 3, axis=2)
    return coloured


def test_a_claim_on_a_telephone_is_read_by_a_noisy_camera() -> None:
    assert Claim.parse(read_qr(held_up()).encode()) == CLAIM


def test_where_there_is_no_code_nothing_is_read() -> None:
    assert read_qr(np.zeros((480, 640, 3), dtype=np.uint8)) == ""


def test_a_board_watches_its_camera_until_somebody_holds_a_claim_up(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((480, 640, 3), 80, dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "3.png"), held_up())
    camera = CameraConfig(kind="replay", sources=(str(tmp_path),), pace="fast")

    def understood(text: str) -> Claim | None:
        return Claim.parse(text.encode()) if text else None

    assert watch_for(camera, understood, threading.Event()) == CLAIM
    (tmp_path / "3.png").unlink()
    assert watch_for(camera, understood, threading.Event()) is None


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_code_is_written_as_a_picture_for_its_owner_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"door-01{suffix}"
    write_picture(CLAIM, path)
    assert path.stat().st_mode & 0o077 == 0
    if suffix == ".png":
        image = cv2.imread(str(path))
        assert image is not None
        assert read_qr(image.astype(np.uint8)) == CLAIM.line
    else:
        assert b"<svg" in path.read_bytes()
    with pytest.raises(InputError, match=r"written as \.svg or \.png"):
        write_picture(CLAIM, tmp_path / "door-01.gif")


def test_the_code_in_a_terminal_is_the_same() -> None:
    lines = terminal_text(CLAIM).split("\n")
    cells = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    rows = [[cells[char][half] for char in line] for line in lines for half in (0, 1)]
    grey = np.kron(np.array(rows, dtype=np.uint8), np.ones((6, 6), dtype=np.uint8))
    assert read_qr(np.repeat(grey[:, :, None], 3, axis=2)) == CLAIM.line


def test_check_says_how_the_claim_stands_and_what_protects_the_key(fleet: Fleet, board: Board) -> None:
    claim = add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S)
    let_in(fleet, board, claim)
    device = load_config(board.places.config).device
    (finding,) = papers.claim(device)
    assert finding.verdict is Verdict.OK
    assert finding.found == f"used; identity claim-{claim.id}"
    assert "key_protection file" in papers.device_key(device, Unsealed()).found
    keep_claim(board.places, CLAIM.file.encode())
    (finding,) = papers.claim(device)
    assert finding.verdict is Verdict.WARNING
    assert "waits to be answered" in finding.found
    (board.places.state_dir / SEALED_MARK).write_text("tpm2\n")
    assert "protected by this machine's TPM" in papers.device_key(device, Unsealed()).found


@pytest.mark.parametrize(
    "settings",
    [
        {"broker": {"url": "mqtts://ok"}, "device": {"key_file": "/etc/shadow"}},
        {"camera": {"pipeline": "filesrc location=/etc/shadow ! fdsink"}},
        {"recognition": {"models_dir": "/somewhere"}},
        {"broker": {"url": "not a broker"}},
        {"camera": {"rotation": {"a": 1}}},
        {"events": {"delivery": "never"}},
        {"shell": {"run": "id"}},
    ],
)
def test_settings_that_are_not_the_fleets_to_set_or_that_no_daemon_takes_change_nothing(
    fleet: Fleet, board: Board, settings: dict[str, dict[str, object]]
) -> None:
    """Validly signed and sealed, and wrong in meaning."""
    claim = add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S, settings=settings)
    with pytest.raises(TokenRefused, match="settings"):
        let_in(fleet, board, claim)
    assert board.store.current() is None
    assert not board.places.config.exists()


def test_a_key_that_another_board_made_is_not_mistaken_for_ones_own(fleet: Fleet, board: Board) -> None:
    let_in(fleet, board, add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S))
    (board.places.state_dir / "kek").unlink()
    with pytest.raises(KeyFileError, match="made on another board"):
        board.current.signing_key()


@pytest.mark.parametrize("purpose", list(Purpose))
def test_no_earlier_key_stays_on_the_disk_after_a_power_cut_between_taking_and_cleaning(
    fleet: Fleet, board: Board, purpose: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in(fleet, board, add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S))
    first = board.current.folder
    claim = add_claim(fleet, "door-01", purpose, listener=LISTENER, now_s=NOW_S)
    cut_once(monkeypatch, IdentityStep.ACTIVATED)
    with pytest.raises(Cut):
        let_in(fleet, board, claim)
    assert first.exists()
    if purpose is Purpose.RENEW:  # where the chain goes on, the daemon's next start does it too
        board.store.drop_predecessor()
    else:
        board.install(b"")
    assert not first.exists()
    assert board.current.complete
