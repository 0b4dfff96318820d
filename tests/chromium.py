"""Chromium without a window, driven over two pipes by its own protocol (DevTools)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

import skips

_LIMIT_S = 60.0
_BLOCK = 1 << 20


class Chromium:
    """A browser with one page.

    Args:
        profile: an empty folder for its files.
        options: of its command line.
    """

    def __init__(self, profile: Path, options: Sequence[str] = ()) -> None:
        program = shutil.which("chromium")
        if program is None:
            pytest.skip(skips.NO_CHROMIUM)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # It reads commands from descriptor 3 and writes to 4; bash puts the pipes there.
        words = [
            "bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", program,
            "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            "--no-first-run", "--no-sandbox", "--disable-gpu", "--mute-audio",
            "--force-color-profile=srgb", *options, "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            words,
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []
        """What the page reported: console messages, exceptions, requests."""
        pages = self._send("Target.getTargets", {})["targetInfos"]
        target = next(each["targetId"] for each in pages if each["type"] == "page")
        attached = self._send("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the protocol."""
        return self._send(method, parameters, self._session)

    def open(self, address: str) -> None:
        """Load a page; returns when the one before it is gone."""
        with suppress(AssertionError):
            self.run("window.isOfBefore = true")
        if "loaderId" in self.call("Page.navigate", url=address):  # not within the same page
            self.wait_for("!window.isOfBefore && document.documentElement !== null")

    def run(self, code: str, limit_s: float = _LIMIT_S) -> Any:
        """The value of a JavaScript expression, or of its promise."""
        answer = self._send(
            "Runtime.evaluate",
            {"expression": code, "awaitPromise": True, "returnByValue": True},
            self._session,
            limit_s,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, code: str, limit_s: float = _LIMIT_S) -> Any:
        """The value of a JavaScript expression as soon as it is true, also after a reload."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                if value := self.run(code):
                    return value
            except AssertionError:
                pass  # the page is on its way to another
            time.sleep(0.1)
        raise AssertionError(f"after {limit_s:.0f} s still not: {code}\n{self.events[-5:]}")

    def processor_s(self) -> float:
        """Seconds of processor time that pages and their workers have used so far."""
        processes = self._send("SystemInfo.getProcessInfo", {})["processInfo"]
        return float(sum(each["cpuTime"] for each in processes if each["type"] == "renderer"))

    def picture(self) -> bytes:
        """The page as a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def problems(self) -> list[str]:
        """Errors on the page's console, exceptions, and what its security policy refused."""
        found = []
        for event in self.events:
            details = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(details["exceptionDetails"])[:500])
            elif event["method"] == "Log.entryAdded" and details["entry"]["level"] == "error":
                found.append(json.dumps(details["entry"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled" and details["type"] == "error":
                found.append(json.dumps(details["args"])[:500])
        return found

    def addresses(self) -> set[str]:
        """Every address that the page asked for."""
        return {
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        }

    def _send(
        self,
        method: str,
        parameters: dict[str, Any],
        session: str | None = None,
        limit_s: float = _LIMIT_S,
    ) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages(limit_s):
            if answer.get("id") != number:
                self.events.append(answer)
            elif "error" in answer:
                raise AssertionError(f"{method}: {answer['error']}")
            else:
                return answer["result"]
        raise AssertionError(f"{method} was not answered within {limit_s:.0f} s")

    def _messages(self, limit_s: float) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + limit_s
        parts = [self._unread]
        while (left := end - time.monotonic()) > 0:
            if b"\0" in parts[-1]:
                message, _, rest = b"".join(parts).partition(b"\0")
                parts = [rest]
                self._unread = rest
                yield json.loads(message)
                continue
            if not select.select([self._read], [], [], left)[0]:
                return
            block = os.read(self._read, _BLOCK)
            if not block:
                raise AssertionError("Chromium ended")
            parts.append(block)


@contextmanager
def chromium(profile: Path, *options: str) -> Iterator[Chromium]:
    """A browser that is closed at the end.

    Raises:
        AssertionError: if it does not answer.
    """
    with Chromium(profile, options) as browser:
        yield browser
