"""Addresses: the files that they name, and no password in anything that is printed."""

from __future__ import annotations

import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visolo_core.errors import VisoloError
from visolo_runtime.sources.addresses import file_at, scheme_of, without_secrets

SECRETS = st.text(string.ascii_letters + string.digits, min_size=8, max_size=20).map("s3".__add__)
SIGNS = st.text("@:;,!$&'()*+=~._-% \u00e9", max_size=4)
SCHEMES = st.sampled_from(["rtsp", "RTSPS", "http", "https", "rtmp", "srt", "udp"])
HOSTS = st.sampled_from(["camera", "192.168.1.20:554", "[fe80::1]:8554", "cam.example.org"])
PATHS = st.sampled_from(["", "/", "/stream", "/a/b@c/live.m3u8", "/cam/realmonitor"])
NAMES = st.sampled_from(
    ["token", "password", "pwd", "api_key", "access-token", "X-Amz-Signature", "auth", "sessionid"]
)


@given(SCHEMES, SECRETS, SECRETS, SIGNS, HOSTS, PATHS, st.booleans())
def test_users_and_passwords_are_not_shown(
    scheme: str, user: str, secret: str, signs: str, host: str, path: str, quoted: bool
) -> None:
    password = secret + signs + secret
    written = quote(password, safe="") if quoted else password
    shown = without_secrets(f"{scheme}://{user}:{written}@{host}{path}")
    assert shown == f"{scheme}://{host}{path}"


@given(SCHEMES, HOSTS, PATHS, NAMES, SECRETS, SIGNS, st.booleans())
def test_secret_parameters_are_masked_and_others_kept(
    scheme: str, host: str, path: str, name: str, secret: str, signs: str, first: bool
) -> None:
    value = secret + quote(signs, safe="/@") + secret
    parameters = [f"{name}={value}", "channel=1"]
    address = f"{scheme}://{host}{path}?" + "&".join(parameters if first else parameters[::-1])
    shown = without_secrets(address)
    assert secret not in shown
    assert shown.startswith(f"{scheme}://{host}{path}?")
    assert "channel=1" in shown


@given(SCHEMES, SECRETS, SECRETS, st.sampled_from("/?#"), HOSTS)
def test_a_password_that_should_have_been_escaped_is_not_shown(
    scheme: str, user: str, secret: str, sign: str, host: str
) -> None:
    shown = without_secrets(f"{scheme}://{user}:{secret}{sign}{secret}@{host}/stream")
    assert secret not in shown
    assert shown.endswith(f"{host}/stream")


@given(st.text(max_size=60))
def test_any_text_has_a_shown_form_and_what_is_shown_has_no_more_secrets(text: str) -> None:
    shown = without_secrets(text)
    assert without_secrets(shown) == shown


def test_passwords_in_paths_of_cheap_cameras() -> None:
    shown = without_secrets("rtsp://10.0.0.5/user=admin&password=s3cret&channel=1&stream=0.sdp?")
    assert shown == "rtsp://10.0.0.5/user=admin&password=***&channel=1&stream=0.sdp?"


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///a/b.mp4", "/a/b.mp4"),
        ("file://localhost/a/b.mp4", "/a/b.mp4"),
        ("FILE:///a/my%20cat%3F.mp4", "/a/my cat?.mp4"),
        ("file:///a/50%25#1.mp4", "/a/50%#1.mp4"),
    ],
)
def test_files_by_address(address: str, path: str) -> None:
    assert scheme_of(address) == "file"
    assert file_at(address) == Path(path)


def test_files_of_other_machines_are_refused() -> None:
    with pytest.raises(VisoloError, match="machine 'nas'"):
        file_at("file://nas/a.mp4")


@pytest.mark.parametrize("source", ["0", "-", "a.mp4", "12:30.mp4", "C:/a.mp4", "a/b://c.mp4"])
def test_what_is_no_address(source: str) -> None:
    assert scheme_of(source) is None
    assert without_secrets(source) == source
