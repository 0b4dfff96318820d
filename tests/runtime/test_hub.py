"""Bundles go to a hub and come back; everything that can be wrong on the way is one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import visolo
from helpers import run_visolo
from hub_server import TOKEN, HubServer
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.models.hub import HubAddress, fetch, push_bundle

pytest.importorskip("huggingface_hub")
ADDRESS = "hf://ada/street"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub that this user may write to, and a cache of its own."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Else its client sends large files by a protocol of several servers.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield server
    server.close()


def test_a_bundle_comes_back_as_it_went(hub: HubServer, lite_bundle: Path) -> None:
    out = run_visolo("push", lite_bundle, ADDRESS).succeeded().out
    assert out.strip() == f"{hub.url}/ada/street"
    assert hub.stored, "no file was large enough for the store"
    folder = fetch(ADDRESS)
    names = Bundle(lite_bundle).manifest.files
    for name in ("manifest.json", *names):
        assert (folder / name).read_bytes() == (lite_bundle / name).read_bytes(), name
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *names}


def test_commands_and_python_take_the_address(hub: HubServer, lite_bundle: Path) -> None:
    push_bundle(lite_bundle, ADDRESS)
    told = run_visolo("info", ADDRESS, "--json").succeeded().json()
    assert told["labels"]["name"] == "shapes"
    before = len(hub.log)
    model = visolo.load(ADDRESS)
    assert model.labels.name == "shapes"
    assert [each.split()[0] for each in hub.log[before:]] == ["GET"]  # asked, but nothing fetched


def test_the_card_says_what_it_is(hub: HubServer, lite_bundle: Path) -> None:
    push_bundle(lite_bundle, ADDRESS)
    files = hub.repositories["ada/street"]
    card = files.commits[files.branches["main"]]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: visolo\n")
    assert "visolo run hf://ada/street" in card
    assert "| detects | disc, square, triangle, star, cross, ring |" in card


def test_a_card_of_ones_own(hub: HubServer, lite_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Mine")
    run_visolo("push", lite_bundle, ADDRESS, "--card", tmp_path / "card.md").succeeded()
    files = hub.repositories["ada/street"]
    assert files.commits[files.branches["main"]]["README.md"] == b"# Mine"


def test_pushing_again_leaves_no_old_graph(hub: HubServer, lite_bundle: Path) -> None:
    push_bundle(lite_bundle, ADDRESS)
    files = hub.repositories["ada/street"]
    now = files.commits[files.branches["main"]]
    files.commit("main", now | {"old.onnx": b"old", "photo.jpg": b"the owner's"})
    first = fetch(ADDRESS)
    push_bundle(lite_bundle, ADDRESS)
    now = files.commits[files.branches["main"]]
    assert "old.onnx" not in now
    assert "photo.jpg" in now
    assert fetch(ADDRESS) != first


def test_a_branch_is_a_state_of_its_own(hub: HubServer, lite_bundle: Path) -> None:
    push_bundle(lite_bundle, ADDRESS)
    push_bundle(lite_bundle, f"{ADDRESS}@try/two")
    assert fetch(f"{ADDRESS}@try/two") != fetch(ADDRESS)


def test_without_the_hub_the_last_state_is_taken(hub: HubServer, lite_bundle: Path) -> None:
    push_bundle(lite_bundle, ADDRESS)
    folder = fetch(ADDRESS)
    hub.failure = 503
    assert fetch(ADDRESS) == folder
    with pytest.raises(VisoloError, match=r"status 503, and it was not downloaded before"):
        fetch("hf://ada/other")


def test_a_private_one_needs_the_token(
    hub: HubServer, lite_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_bundle(lite_bundle, ADDRESS, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    outcome = run_visolo("info", ADDRESS)
    assert outcome.status == 2
    assert "it is private and HF_TOKEN does not open it" in outcome.err
    assert "hf_wrong" not in outcome.err
    refused = run_visolo("push", lite_bundle, ADDRESS)
    assert refused.status == 2
    assert "HF_TOKEN is missing or does not allow it" in refused.err


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hf://ada", "is no address on the hub: write hf://OWNER/NAME"),
        ("hf://ada/../street", "is no address on the hub"),
        ("hf://ada/street@../../x", "is no address on the hub"),
        ("hf://ada/none", "there is no such repository"),
        ("hf://ada/street@v9", "has no such revision"),
    ],
)
def test_wrong_addresses(hub: HubServer, lite_bundle: Path, address: str, sentence: str) -> None:
    push_bundle(lite_bundle, ADDRESS)
    outcome = run_visolo("info", address)
    assert outcome.status == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1


def _with_manifest(hub: HubServer, **changes: object) -> None:
    files = hub.repositories["ada/street"]
    now = dict(files.commits[files.branches["main"]])
    manifest = json.loads(now["manifest.json"]) | changes
    files.commit("main", now | {"manifest.json": json.dumps(manifest).encode()})


def test_what_is_no_whole_bundle_is_not_kept(
    hub: HubServer, lite_bundle: Path, tmp_path: Path
) -> None:
    push_bundle(lite_bundle, ADDRESS)
    files = hub.repositories["ada/street"]
    whole = files.commits[files.branches["main"]]

    files.commit("main", {"README.md": b"a text"})
    with pytest.raises(VisoloError, match=r"holds no bundle: it has no manifest\.json"):
        fetch(ADDRESS)
    files.commit("main", {name: each for name, each in whole.items() if name != "frame.onnx"})
    with pytest.raises(VisoloError, match="a file that its manifest lists is missing"):
        fetch(ADDRESS)
    files.commit("main", whole | {"frame.onnx": whole["frame.onnx"][:-9] + b"different"})
    with pytest.raises(VisoloError, match="is not the file that was exported"):
        fetch(ADDRESS)
    files.commit("main", whole)
    _with_manifest(hub, files={"../../out.onnx": {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(VisoloError, match=r"leads out of|lists no checksum"):
        fetch(ADDRESS)
    kept = tmp_path / "cache" / "visolo" / "hub" / "ada--street"
    assert [path for path in kept.iterdir() if path.name != "refs"] == []


def test_machine_code_is_neither_fetched_nor_pushed(
    hub: HubServer, lite_bundle: Path, tmp_path: Path
) -> None:
    push_bundle(lite_bundle, ADDRESS)
    graphs = json.loads((lite_bundle / "manifest.json").read_text())["graphs"]
    compiled = [graphs[0] | {"format": "aotinductor"}]
    _with_manifest(hub, graphs=compiled)
    with pytest.raises(VisoloError, match="holds aotinductor, machine code"):
        fetch(ADDRESS)
    mine = shutil.copytree(lite_bundle, tmp_path / "mine.visolo")
    manifest = json.loads((mine / "manifest.json").read_text()) | {"graphs": compiled}
    (mine / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VisoloError, match="holds aotinductor, machine code"):
        push_bundle(mine, ADDRESS)


def test_without_the_package_the_sentence_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(VisoloError, match=r"need huggingface_hub: run pip install .*hub"):
        fetch(ADDRESS)


def test_addresses_are_read_and_written() -> None:
    for text in ("hf://ada/street", "hf://ada/street@v1.2"):
        assert str(HubAddress.parse(text)) == text
    assert HubAddress.parse("hf://ada/street/").repository == "ada/street"
