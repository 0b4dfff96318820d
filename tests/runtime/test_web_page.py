"""The page in a browser: the same tracks as in Python, its controls, and that nothing leaves it."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import skips
from chromium import Chromium, chromium
from clips import write_video
from helpers import LIMIT_S
from page_server import Frames, PageServer, served
from visolo.commands.options import changed
from visolo_core.contract import CANDIDATES
from visolo_core.instances import Instances
from visolo_runtime.session.loading import load
from visolo_runtime.web.page_folder import RUNTIME, write_page
from visolo_train.data.synthetic import draw_clip

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 360, 640
MOST_BYTES = 13_000_000
"""That a first visit may load."""
MOST_PIXELS = 24
"""In which a mask may differ from Python's, of 114,688. WebAssembly adds in another order, and a
pixel whose logit is next to zero may fall on the other side."""
TRACKED = (
    "document.getElementById('curtain').hidden && "
    "document.querySelectorAll('#tracks .score').length > 0"
)


class PageResult(NamedTuple):
    """What the page found in a frame."""

    about: list[dict[str, Any]]
    masks: NDArray[np.bool_]


def shapes_clip(frames: int) -> Frames:
    """Drawn shapes."""
    return list(draw_clip(2026, 13, frames, HEIGHT, WIDTH).frames)


def people_clip(frames: int) -> Frames:
    """A camera that sways over four people, the picture of the model's page."""
    still = np.asarray(Image.open(ROOT / "docs/images/everyday.jpg").convert("RGB"))
    corners = [
        (round(52 * (1 - math.cos(0.13 * at))), round(160 * (1 - math.cos(0.05 * at))))
        for at in range(frames)
    ]
    return [np.ascontiguousarray(still[y : y + HEIGHT, x : x + WIDTH]) for y, x in corners]


CLIPS: dict[str, Callable[[int], Frames]] = {"shapes": shapes_clip, "everyday": people_clip}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the models of the package."""
    runtime = ROOT / "build/npm/node_modules" / RUNTIME
    if not runtime.is_dir():
        pytest.skip(skips.NO_WEB_RUNTIME)
    written = write_page(tmp_path_factory.mktemp("web") / "page", "everyday", runtime)
    assert written.first_load_bytes <= MOST_BYTES
    return written.folder


@pytest.fixture
def server(page: Path) -> Iterator[PageServer]:
    """The page, served on the loopback."""
    with served(page) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """A browser whose camera is a drawing."""
    profile = tmp_path / "profile"
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(profile, *camera) as browser:
        yield browser


def find(name: str) -> str:
    return f"document.getElementById({name!r})"


# --------------------------------------------------------------------------- the same tracks


def track_on_page(
    browser: Chromium,
    server: PageServer,
    model: str,
    clip: Frames,
    backend: str = "wasm",
    confidence: float | None = None,
) -> tuple[list[PageResult], float]:
    """What the page's worker finds in a clip, and its milliseconds a frame (the median)."""
    server.clip = clip
    browser.open(f"{server.address}icon.svg")  # a page with nothing on it, so nothing else runs
    browser.wait_for("document.readyState === 'complete'")
    code = (ROOT / "tests/track_clip.js").read_text().partition("async")
    address = f"{server.address}model/worker.js"
    arguments = [address, f"../models/{model}/", len(clip), HEIGHT, WIDTH, backend, confidence]
    call = f"({code[1]}{code[2]})({', '.join(map(json.dumps, arguments))})"
    spent = browser.run(call, limit_s=1200)
    results = []
    for number in range(len(clip)):
        about, _, masks = server.results[number].partition(b"\n")
        found = json.loads(about)
        flat = np.frombuffer(masks, np.uint8).astype(bool)
        results.append(PageResult(found, flat.reshape(len(found), -1)))
    return results, float(np.median(spent))


def compare(frame: int, page: PageResult, python: Instances) -> int:
    """Assert the same instances; returns the most pixels in which a mask differs."""
    assert [
        (each["trackId"], each["label"], each["trackLabel"], each["cell"]) for each in page.about
    ] == [
        (each.track_id, each.label, each.track_label, int(python.cell[at]))
        for at, each in enumerate(python)
    ], f"frame {frame}"
    # Sums of thousands of float32 in another order.
    np.testing.assert_allclose(
        [each["score"] for each in page.about], python.confidence, atol=2e-4, rtol=0
    )
    np.testing.assert_allclose(
        [each["trackScore"] for each in page.about], python.track_confidence, atol=2e-4, rtol=0
    )
    if not len(python):
        return 0
    differing = page.masks != python.input_masks.reshape(len(python), -1).astype(bool)
    return int(differing.sum(axis=1).max())


def check_clip(
    browser: Chromium, server: PageServer, model: str, frames: int, backend: str = "wasm"
) -> None:
    clip = CLIPS[model](frames)
    begin = browser.processor_s()
    found, page_ms = track_on_page(browser, server, model, clip, backend)
    page_cpu_ms = 1000 * (browser.processor_s() - begin) / frames
    session = load(model, backend="onnxruntime", threads=1).session(record=False)
    begin = time.process_time()
    expected = [session.step(frame) for frame in clip]
    python_cpu_ms = 1000 * (time.process_time() - begin) / frames
    most = max(compare(at, *pair) for at, pair in enumerate(zip(found, expected, strict=True)))
    assert sum(len(each) for each in expected) > frames  # there was something to compare
    assert session.stream.tracks_begun > 1
    assert most <= MOST_PIXELS
    print(
        f"\n{model}, {backend}: {frames} frames, masks differ in at most {most} pixels; "
        f"Chromium {page_ms:.0f} ms a frame, {page_cpu_ms:.0f} ms of a processor; "
        f"Python {python_cpu_ms:.0f} ms of a processor"
    )


@pytest.mark.parametrize(("model", "frames"), [("shapes", 36), ("everyday", 16)])
def test_the_page_finds_the_same_tracks_as_python(
    browser: Chromium, server: PageServer, model: str, frames: int
) -> None:
    check_clip(browser, server, model, frames)


def test_more_cells_than_the_graph_has_places_for(browser: Chromium, server: PageServer) -> None:
    """They are chosen from all of its outputs, and their masks are decoded in many runs."""
    clip = CLIPS["shapes"](2)
    found, _ = track_on_page(browser, server, "shapes", clip, confidence=0.001)
    settings = partial(changed, settings=None, confidence=0.001)
    session = load("shapes", backend="onnxruntime", settings=settings).session(record=False)
    for frame, page in zip(clip, found, strict=True):
        expected = session.step(frame)
        assert session._buffers.read("count")[0] > CANDIDATES
        assert compare(expected.frame, page, expected) <= MOST_PIXELS


@pytest.mark.slow
@pytest.mark.parametrize("model", list(CLIPS))
def test_the_same_tracks_over_300_frames(browser: Chromium, server: PageServer, model: str) -> None:
    check_clip(browser, server, model, 300)


@pytest.mark.slow
def test_the_same_tracks_with_webgpu(tmp_path: Path, server: PageServer) -> None:
    """On a graphics processor that Chromium imitates, half a minute a frame."""
    imitated = (
        "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader",
        "--enable-features=Vulkan,WebGPU", "--ignore-gpu-blocklist",
    )  # fmt: skip
    with chromium(tmp_path / "profile", *imitated) as browser:
        check_clip(browser, server, "shapes", 4, "webgpu")


# ------------------------------------------------------------------------------ the page itself


def test_a_visit(browser: Chromium, page: Path, tmp_path: Path) -> None:
    """One visitor watches the scene, plays with it, and is still there without a network."""
    with served(page) as server:
        browser.open(server.address)
        browser.wait_for(TRACKED, 120)
        assert browser.run("crossOriginIsolated")  # so that several threads are allowed
        policy = "fetch('model/worker.js').then(r => r.headers.get('content-security-policy'))"
        assert "connect-src 'self'" in browser.run(policy)
        scene_is_dragged(browser)
        controls_work(browser)
        browser.run(f"{find('source-camera')}.click()")
        browser.wait_for(f"{find('model')}.textContent.includes('everyday')", 120)
        browser.wait_for(f"{find('curtain')}.hidden")
        video_file_is_tracked(browser, write_video(tmp_path / "drawn.mp4", 12, 360, 640))
        assert {each for each in browser.addresses() if not each.startswith("blob:")} == {
            each for each in browser.addresses() if each.startswith(server.address)
        }
        address = server.address
    browser.open(address)  # where there is no server any more
    browser.wait_for(TRACKED, 120)
    assert browser.problems() == []


def scene_is_dragged(browser: Chromium) -> None:
    """A shape follows the pointer into the middle, where nothing was."""
    left, top, width, height = browser.run(
        f"(({{x, y, width, height}}) => [x, y, width, height])"
        f"({find('picture')}.getBoundingClientRect())"
    )
    middle = {"x": left + width / 2, "y": top + height / 2}
    scale = min(width / 960, height / 540)  # of the scene on the page
    dragging = f"{find('stage')}.classList.contains('dragging')"
    mouse = {"button": "left", "clickCount": 1}

    def brightness() -> int:
        picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
        colour = picture.getpixel((round(middle["x"]), round(middle["y"])))
        assert isinstance(colour, tuple)
        return max(colour)

    assert brightness() < 130  # the background, which is dark
    for step in range(8):  # the star drifts from where it began
        star = {
            "x": middle["x"] + (190 + 20 * step - 480) * scale,
            "y": middle["y"] + (165 + 11 * step - 270) * scale,
        }
        browser.call("Input.dispatchMouseEvent", type="mousePressed", **star, **mouse)
        if browser.run(dragging):
            break
        browser.call("Input.dispatchMouseEvent", type="mouseReleased", **star, **mouse)
    assert browser.run(dragging)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **middle, button="left", buttons=1)
    end = time.monotonic() + LIMIT_S
    while brightness() < 150 and time.monotonic() < end:
        time.sleep(0.1)
    assert brightness() >= 150
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", **middle, **mouse)
    assert not browser.run(dragging)


def controls_work(browser: Chromium) -> None:
    press(browser, " ", "Space")
    assert browser.run(f"{find('pause')}.getAttribute('aria-pressed')") == "true"
    # A paused picture without overlay, with it, and with other labels: each is another picture.
    shown = [browser.picture()]
    for name in ("show-masks", "show-labels", "show-trails"):
        browser.run(f"{find(name)}.click()")
        shown.append(browser.picture())
    assert len(set(shown)) == len(shown)
    theme = browser.run("getComputedStyle(document.body).backgroundColor")
    press(browser, "t", "KeyT")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != theme
    press(browser, " ", "Space")
    browser.run(
        f"{find('confidence')}.value = 0.9; {find('confidence')}.dispatchEvent(new Event('input'))"
    )
    browser.wait_for("document.querySelectorAll('#tracks .none').length")
    browser.run(
        f"{find('confidence')}.value = 0.2; {find('confidence')}.dispatchEvent(new Event('input'))"
    )
    browser.wait_for(TRACKED)


def press(browser: Chromium, key: str, code: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=code)


def video_file_is_tracked(browser: Chromium, video: Path) -> None:
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(video)])
    browser.wait_for(f"{find('hint')}.textContent.startsWith('drawn.mp4')")
    browser.wait_for(f"{find('curtain')}.hidden && Number({find('rate')}.textContent) > 0")


def test_the_page_fits_the_screen(browser: Chromium, server: PageServer) -> None:
    browser.open(server.address)
    browser.wait_for(f"document.readyState === 'complete' && {find('source-scene')}.clientWidth")
    for width, height in ((320, 568), (390, 844), (1280, 800), (2560, 1440)):
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        assert browser.run("document.documentElement.scrollWidth") <= width
        for name in ("picture", "pause", "source-file", "theme"):
            assert browser.run(f"{find(name)}.getBoundingClientRect().right") <= width, name
