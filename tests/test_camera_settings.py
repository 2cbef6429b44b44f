"""What may be written under [camera], and what each refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import CameraConfig, parse_config
from edge.errors import ConfigError


def camera(**settings: Any) -> CameraConfig:
    device = {"id": "door-01", "site": "hq", "root_thumbprint": "A" * 43}
    broker = {"url": "mqtt://127.0.0.1:1883"}
    document = {"device": device, "broker": broker, "events": {"delivery": "broker"}, "camera": settings}
    return parse_config(document, Path("edge.toml")).camera


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "picamera", "device": "1"},
        {"kind": "v4l2", "device": "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"},
        {"kind": "gstreamer", "pipeline": "videotestsrc ! 'video/x-raw, width=64'"},
        {"rotation": 270, "mirror": True, "width": 1280, "height": 720},
        {"region_x": 0.7, "region_width": 0.3, "region_y": 0, "region_height": 1},
    ],
)
def test_what_is_meant_is_taken(settings: dict[str, Any]) -> None:
    config = camera(**settings)
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rotation": 45}, "camera.rotation = 45: must be one of 0, 90, 180, 270"),
        ({"rotation": True}, "camera.rotation = True: must be one of 0, 90, 180, 270"),
        ({"width": 640.5}, "camera.width = 640.5: must be a whole number from 16 to 8192"),
        ({"device": "video0"}, "camera.device = 'video0': must be a string like"),
        ({"kind": "picamera", "device": "/dev/video0"}, "`picamera` takes a number, `v4l2` a path as well"),
        (
            {"region_x": 0.5, "region_width": 0.6},
            "region_width = 0.6: reaches out of the picture from region_x",
        ),
        (
            {"region_y": 0.25},
            "region_height = 1: reaches out of the picture from region_y = 0.25; at most 0.75",
        ),
        ({"region_width": 0}, "camera.region_width = 0.0: must be a number from 0.01 to 1"),
        ({"kind": "gstreamer", "pipeline": 'a "b'}, "cannot be split into arguments (No closing quotation)"),
        ({"kind": "gstreamer", "pipeline": "a\nb"}, "camera.pipeline = 'a\\nb': must be a string like"),
        ({"kind": "v4l2", "sources": ["a.mp4"]}, 'camera.sources: is for kind = "replay"; kind is "v4l2"'),
        ({"pipeline": "videotestsrc"}, 'camera.pipeline: is for kind = "gstreamer"; kind is "replay"'),
    ],
)
def test_a_refusal_names_key_value_and_what_would_be_allowed(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        camera(**settings)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("edge.toml: camera.")
