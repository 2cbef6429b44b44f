"""The configuration file: what is read, and what every refusal tells the person who wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.config import Config, load_config, parse_config
from edge.errors import ConfigError
from edge.records import Direction
from edge.settings import MAX_CONFIG_BYTES

MINIMAL = """
[device]
id = "door-01"
site = "hq"
root_thumbprint = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

[broker]
url = "mqtt://127.0.0.1:1883"

[events]
delivery = "broker"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge.toml"


def load(file: Path, text: str) -> Config:
    file.write_text(text)
    return load_config(file)


def test_a_minimal_file_leaves_everything_else_at_its_default(file: Path) -> None:
    config = load(file, MINIMAL)
    assert config.device.id == "door-01"
    assert config.decide.fpir_target == 0.003
    assert config.decide.min_good_frames == 3
    assert config.recognition.embedder == "facenet+sface"


def test_relative_paths_are_relative_to_the_files_own_folder(file: Path) -> None:
    config = load(file, MINIMAL + '\n[camera]\nsources = ["clips/a.avi", "rtsp://door/stream"]\n')
    assert config.device.gallery_file == file.parent / "gallery.hadir"
    assert config.camera.sources == (str(file.parent / "clips/a.avi"), "rtsp://door/stream")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(file: Path) -> None:
    file.write_text(MINIMAL, encoding="utf-8-sig")
    assert load_config(file).device.id == "door-01"


def test_a_whole_number_is_a_number(file: Path) -> None:
    assert load(file, MINIMAL + "\n[decide]\ncooldown_s = 30\n").decide.cooldown_s == 30.0


def test_a_direction_is_read_as_one(file: Path) -> None:
    text = MINIMAL.replace('site = "hq"', 'site = "hq"\ndirection = "in"')
    assert load(file, text).device.direction is Direction.IN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[decide]\ncooldown = 3\n", "unknown key decide.cooldown; allowed are fpir_target, min_good_frames"),
        ("[decid]\n", "unknown section [decid]; allowed are device, broker, events, camera"),
        ("[decide]\ncooldown_s = true\n", "decide.cooldown_s = True: must be a number from 0 to 86400"),
        ("[decide]\nfpir_target = nan\n", "decide.fpir_target = nan: must be a number from 0.0001 to 0.5"),
        (
            "[decide]\nmin_good_frames = 1\n",
            "decide.min_good_frames = 1: must be a whole number from 3 to 20",
        ),
        (
            "[decide]\nmin_good_frames = 3.5\n",
            "decide.min_good_frames = 3.5: must be a whole number from 3 to 20",
        ),
        ('[camera]\nkind = "webcam"\n', "camera.kind = 'webcam': must be one of \"replay\""),
        ("[camera]\nsources = [1]\n", "camera.sources = [1]: must be a list of paths or URLs"),
        ('[recognition]\nmodels_dir = ""\n', "recognition.models_dir = '': must be a path"),
        (
            "[decide]\nfused_frames = 4\nmin_good_frames = 5\n",
            "decide.fused_frames = 4: must lie between min_good_frames (5)",
        ),
        (
            "[quality]\nmin_brightness = 200\nmax_brightness = 100\n",
            "quality.min_brightness = 200: must be below max_brightness (100)",
        ),
        ("decide = 3\n" + MINIMAL, "decide = 3: must be a section, written [decide]"),
    ],
)
def test_a_refusal_names_file_key_value_and_what_is_allowed(file: Path, text: str, said: str) -> None:
    document = text if text.endswith(MINIMAL) else MINIMAL + text
    with pytest.raises(ConfigError) as refusal:
        load(file, document)
    assert said in str(refusal.value)
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "door-01"\n', "", "device.id: is missing and has no default"),
        (
            'delivery = "broker"\n',
            "diagnostics = true\n",
            "events.delivery: is missing and has no default; it must be one of",
        ),
        ('"broker"\n', '"broker"\ndiagnostics = 1\n', "events.diagnostics = 1: must be true or false"),
        ('"door-01"', '"Door 1"', "device.id = 'Door 1': must be a string like"),
        ('"mqtt://127.0.0.1:1883"', '"http://x"', "broker.url = 'http://x': must be a string like mqtts?://"),
        (
            '1883"',
            '1883"\nretry_min_s = 5\nretry_max_s = 1',
            "broker.retry_min_s = 5: must not exceed retry_max_s (1)",
        ),
        ('1883"', '1883"\nca_file = "ca.pem"', "ca_file and cert_file need TLS, so write mqtts://"),
        (
            '"mqtt://127.0.0.1:1883"',
            '"mqtts://127.0.0.1:8883"\ncert_file = "a.pem"',
            "broker.cert_file and broker.private_key_file belong together",
        ),
    ],
)
def test_what_is_missing_or_malformed_is_named(file: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(file, MINIMAL.replace(old, new))
    assert said in str(refusal.value)


def test_a_password_in_a_url_is_not_repeated_however_it_is_written(file: Path) -> None:
    """Regression: one with a stroke in it was."""
    with pytest.raises(ConfigError) as refusal:
        load(file, MINIMAL.replace("127.0.0.1", "user:sec/ret@127.0.0.1"))
    assert "ret" not in str(refusal.value)


def test_a_url_cannot_carry_a_password(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.url") as refusal:
        load(file, MINIMAL.replace("127.0.0.1", "user:secret@127.0.0.1"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["mqtt://host:port", "mqtt://host:0", "mqtt://host:65536", "mqtt://[::1", "mqtt://:1883"]
)
def test_a_url_that_is_no_address_is_refused_before_anything_connects(file: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"broker\.url = .* port from 1 to 65535"):
        load(file, MINIMAL.replace("mqtt://127.0.0.1:1883", url))


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "[" * 20_000 + "]" * 20_000,
        "a = " + "{a=" * 3000,
        "a = 1" + "0" * 60_000,
        MINIMAL + "[decide]\ncooldown_s = 1" + "0" * 400,
        MINIMAL + "[decide]\ncooldown_s = 0x" + "f" * 9000,
        MINIMAL + "[decide]\nfused_frames = [0x" + "f" * 9000 + "]",
        MINIMAL + '[decide]\ncooldown_s = "' + "x" * 9000 + '"',
    ],
    ids=["open", "nested", "tables", "digits", "too large", "hexadecimal", "in a list", "long"],
)
def test_a_file_that_is_hard_on_its_reader_is_refused_in_few_words(file: Path, text: str) -> None:
    """Named regression: the parser's own recursion and Python's limit on digits ended in tracebacks."""
    with pytest.raises(ConfigError) as refusal:
        load(file, text)
    assert str(refusal.value).startswith(f"{file}: ")
    assert len(str(refusal.value)) < 600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, len(MINIMAL)), st.integers(0, 40))
def test_whatever_bytes_are_in_the_file_it_is_taken_or_refused_by_name(
    file: Path, noise: bytes, at: int, cut: int
) -> None:
    """A good file with a hole, or noise, anywhere in it: what a bad card gives."""
    text = MINIMAL.encode()
    file.write_bytes(text[:at] + noise + text[at + cut :])
    try:
        assert isinstance(load_config(file), Config)
    except ConfigError as refusal:
        assert str(refusal).startswith(f"{file}: ")


def test_a_file_that_is_not_there_or_not_toml_or_huge_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file, "= nonsense")
    with pytest.raises(ConfigError, match="larger than"):
        load(file, "#" * (MAX_CONFIG_BYTES + 1))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
documents = st.dictionaries(
    st.sampled_from(["device", "broker", "camera", "decide", "quality", "events", "x"]),
    st.dictionaries(st.sampled_from(["id", "site", "url", "kind", "sources", "cooldown_s", "y"]), values)
    | values,
)


@given(documents)
def test_whatever_is_written_is_either_taken_or_refused_by_name(document: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_config(document, Path("edge.toml")), Config)
    except ConfigError as refusal:
        assert str(refusal).startswith("edge.toml")


def test_a_state_folder_that_may_not_be_read_is_said_to_be_so(file: Path) -> None:
    """Regression: `check` by anybody but root or the daemon's user ended without a finding. A name too long
    stands for a folder of somebody else's, because root may read them all."""
    with pytest.raises(ConfigError, match=r"settings\.toml: cannot be looked for \(File name too long\)"):
        load(file, MINIMAL.replace("[broker]", f'state_dir = "{"a" * 300}"\n[broker]'))
