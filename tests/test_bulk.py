"""Many boards from a file: every line is right, or nothing is registered."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import InputError
from edge.records import Direction
from edge.trust.claim import Claim
from provisioning.bulk import MAX_FILE_BYTES, read_boards, with_progress
from provisioning.cli import main
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.fleet import Fleet
from tests.test_broker import reachable


def sheet(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "boards.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_line_is_a_board_and_empty_cells_are_what_a_board_has_by_itself(
    fleet: Fleet, tmp_path: Path
) -> None:
    path = sheet(
        tmp_path,
        "\ufeffdevice,site,direction,label,camera,camera_device\r\n"
        'door-10,lab,out,"Back door, north",v4l2,/dev/video2\r\n'
        "door-11,,,,,\r\n",
    )
    first, second = read_boards(path, fleet)
    assert (first.device, first.site, first.direction, first.label) == (
        "door-10",
        "lab",
        Direction.OUT,
        "Back door, north",
    )
    assert first.settings == {"camera": {"kind": "v4l2", "device": "/dev/video2"}}
    assert (second.site, second.direction, second.label, second.settings) == (None, Direction.BOTH, "", {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"line 1: the columns are none"),
        ("site\nhq\n", "line 1: the columns are site; .* device must be there"),
        ("device,colour\nd,red\n", "the columns are device, colour"),
        ("device,device\nd,d\n", "once each"),
        ("device\nDoor\n", "line 2: device id 'Door'"),
        ("device\ndoor-10\ncentral-1\n", "line 3: device id 'central-1'"),
        ("device\ndoor-01\n", "line 2: device = 'door-01': is in this fleet or file already"),
        ("device\ndoor-10\ndoor-10\n", "line 3: device = 'door-10'"),
        ("device,site\nd,HQ\n", "line 2: site 'HQ'"),
        ("device,direction\nd,up\n", "line 2: direction 'up': must be one of in, out, both"),
        ("device,camera\nd,polaroid\n", "line 2: camera 'polaroid': must be one of picamera"),
        ("device,camera\nd,replay\n", "line 2: camera 'replay'"),
        ("device,camera_device\nd,0\n", "belongs to a camera"),
        ("device,label\nd,\x1b[31m\n", "line 2: label"),
        ("device,site\nd\n", "line 2: has more or fewer cells"),
        ("device\nd,hq\n", "line 2: has more or fewer cells"),
        (b"device\n\xff\n", "not a CSV file in UTF-8"),
        ('device\n"d\n', "not a CSV file"),
    ],
)
def test_a_line_that_cannot_be_is_named_and_nothing_is_registered(
    fleet: Fleet, tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = sheet(tmp_path, text)
    with pytest.raises(InputError, match=reason) as refused:
        read_boards(path, fleet)
    assert str(path) in str(refused.value)


def test_a_file_that_is_missing_or_too_large_is_named(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_boards(tmp_path / "nothing.csv", fleet)
    with pytest.raises(InputError, match="larger than"):
        read_boards(sheet(tmp_path, b"x" * (MAX_FILE_BYTES + 1)), fleet)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_noise_is_refused_or_has_no_boards(fleet: Fleet, tmp_path: Path, noise: bytes) -> None:
    try:
        boards = read_boards(sheet(tmp_path, b"device\n" + noise), fleet)
    except InputError:
        return
    assert all(board.device.islower() or board.device.isdecimal() for board in boards)


def test_the_command_registers_all_and_leaves_a_claim_for_each(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reachable(fleet.folder)
    write_broker(fleet, BrokerSettings(("broker.local",), folder=str(fleet.folder / "broker")), 1_764_000_000)
    path = sheet(tmp_path, "device,label\n" + "".join(f"gate-{n:03},Gate {n}\n" for n in range(40)))
    out = tmp_path / "claims"
    assert main(["device", "import", str(fleet.folder), str(path), "--out", str(out)]) == 0
    assert "40 boards registered" in capsys.readouterr().out
    claims = [Claim.parse((out / f"gate-{n:03}" / "hadir-claim.json").read_bytes()) for n in range(40)]
    assert len({claim.id for claim in claims}) == 40
    assert [d.label for d in fleet.registry.devices() if d.device == "gate-007"] == ["Gate 7"]
    passwords = (fleet.folder / "broker" / "claims.passwd").read_text()
    assert all(f"{claim.id}:" in passwords for claim in claims)
    assert main(["device", "import", str(fleet.folder), str(path)]) == InputError.exit_code


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True


def test_a_bar_grows_where_somebody_watches_and_nowhere_else() -> None:
    terminal, file = Terminal(), io.StringIO()
    assert list(with_progress("abcd", 4, "boards", terminal)) == list("abcd")
    assert list(with_progress("abcd", 4, "boards", file)) == list("abcd")
    assert file.getvalue() == ""
    last = terminal.getvalue().split("\r")[-1]
    assert last == f"[{'#' * 40}] 4 of 4 boards\n"
    assert f"[{'#' * 10}{'.' * 30}] 1 of 4 boards" in terminal.getvalue()
