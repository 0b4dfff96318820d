"""Bundles on the Hugging Face Hub: fetched by address, and pushed with a card.

A bundle is a directory, so a model repository holds one as it is: the manifest, its files, and a
card made from the manifest. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they
mean to every program that uses the hub.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visolo_core import __version__
from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_core.files import inside, reason, replaced, user_cache
from visolo_runtime.bundle import MANIFEST, Bundle
from visolo_runtime.models import HUB
from visolo_runtime.models.bundle_card import bundle_card

CARD = "README.md"
_LOG = logging.getLogger(__name__)
_MACHINE_CODE = ("aotinductor",)
"""Formats that are code of a processor, which nobody should run because an address names it."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubAddress:
    """A model repository, and which state of it."""

    repository: str
    """owner/name"""
    revision: str = "main"
    """a branch, a tag or a commit"""

    @classmethod
    def parse(cls, address: str) -> HubAddress:
        """Read ``hf://owner/name`` or ``hf://owner/name@revision``.

        Raises:
            VisoloError: if it is no such address.

        >>> HubAddress.parse("hf://ada/street@v2")
        HubAddress(repository='ada/street', revision='v2')
        """
        found = _ADDRESS.fullmatch(address.removeprefix(HUB).rstrip("/"))
        if not address.startswith(HUB) or found is None or ".." in address:
            raise VisoloError(
                f"'{address}' is no address on the hub: write hf://OWNER/NAME, or "
                "hf://OWNER/NAME@REVISION"
            )
        return cls(found[1], found[2] or "main")

    def __str__(self) -> str:
        return HUB + self.repository + ("" if self.revision == "main" else f"@{self.revision}")


def fetch(address: str) -> Path:
    """The bundle at an address, downloaded once for each of its states.

    Where the hub cannot be asked, the state that the address named last is taken, if it is here.

    Args:
        address: ``hf://owner/name`` or ``hf://owner/name@revision``.

    Raises:
        NotHereError: if huggingface_hub is not installed.
        VisoloError: if there is no bundle at the address, it cannot be reached and is not here, or
            it holds machine code.
    """
    found = HubAddress.parse(address)
    hub = _import_hub()
    cache = user_cache()
    if cache is None:
        raise VisoloError("the user has no home to keep models in: set XDG_CACHE_HOME")
    kept = cache / "hub" / found.repository.replace("/", "--")
    reference = inside(kept, "refs") / found.revision.replace("/", "--")
    try:
        with _hub_errors(hub, f"cannot fetch '{found}'"):
            info = _api(hub).model_info(found.repository, revision=found.revision)
        commit = str(info.sha)
    except _Unreachable as error:
        commit = _read(reference)
        if not commit:
            raise VisoloError(f"{error}, and it was not downloaded before") from error
        _LOG.warning("%s: the state that was downloaded last is used", error)
    folder = inside(kept, commit)
    if not (folder / MANIFEST).is_file():
        _download(hub, found, commit, folder)
    if _read(reference) != commit:
        reference.parent.mkdir(parents=True, exist_ok=True)
        with replaced(reference) as temporary:
            temporary.write_text(commit, encoding="utf-8")
    return folder


def push_bundle(folder: Path, address: str, card: Path | None = None, private: bool = False) -> str:
    """Make a bundle the contents of a model repository, which is created if there is none.

    Args:
        folder: the bundle.
        address: ``hf://owner/name``, or a branch of it.
        card: a card to use instead of one made from the manifest.
        private: for a repository that is created.

    Returns:
        the address of the repository's page.

    Raises:
        NotHereError: if huggingface_hub is not installed.
        VisoloError: if the bundle is damaged or holds machine code, the card cannot be read, or the
            hub does not take it.
    """
    target = HubAddress.parse(address)
    bundle = Bundle(folder)
    bundle.check_files()
    _refuse_machine_code(bundle, str(folder))
    try:
        text = card.read_bytes() if card else bundle_card(bundle.manifest, str(target)).encode()
    except OSError as error:
        raise VisoloError(f"cannot read '{card}': {reason(error)}") from error
    hub = _import_hub()
    names = [MANIFEST, *bundle.manifest.files]
    additions = [hub.CommitOperationAdd(name, str(folder / name)) for name in names]
    additions.append(hub.CommitOperationAdd(CARD, text))
    try:
        with _hub_errors(hub, f"cannot push to '{target}'"):
            api = _api(hub)
            api.create_repo(target.repository, private=private, exist_ok=True)
            if target.revision != "main":
                api.create_branch(target.repository, branch=target.revision, exist_ok=True)
            there = api.model_info(target.repository, revision=target.revision).siblings or []
            gone = [
                hub.CommitOperationDelete(each.rfilename)
                for each in there
                if _is_stale(each.rfilename, names)
            ]
            done = api.create_commit(
                target.repository,
                [*additions, *gone],
                commit_message="Bundle of visolo",
                revision=target.revision,
            )
    except _Unreachable as error:
        raise VisoloError(str(error)) from error
    return str(done.repo_url)


def _is_stale(name: str, names: list[str]) -> bool:
    """Whether a file of a repository belonged to the bundle before; the owner's others stay."""
    parts = Path(name).suffix in (".onnx", ".engine", ".xml", ".bin", ".pt", ".pt2", ".data")
    return parts and name not in names


def _download(hub: Any, address: HubAddress, commit: str, folder: Path) -> None:
    """Download a bundle beside its place and move it there when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".download-"))
    try:
        with _hub_errors(hub, f"cannot fetch '{address}'"):

            def bring(name: str) -> None:
                hub.hf_hub_download(
                    address.repository,
                    name,
                    revision=commit,
                    local_dir=str(temporary),
                    endpoint=_endpoint(),
                )

            try:
                bring(MANIFEST)
            except hub.errors.EntryNotFoundError as error:
                raise VisoloError(f"'{address}' holds no bundle: it has no {MANIFEST}") from error
            bundle = Bundle(temporary)
            _refuse_machine_code(bundle, str(address))
            for name in bundle.manifest.files:
                bring(name)
        bundle.check_files()
        shutil.rmtree(temporary / ".cache", ignore_errors=True)
        if not (folder / MANIFEST).is_file():  # no other process was quicker
            temporary.replace(folder)
    except _Unreachable as error:
        raise VisoloError(str(error)) from error
    except OSError as error:
        raise VisoloError(f"cannot keep '{address}' in '{folder}': {reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_machine_code(bundle: Bundle, name: str) -> None:
    held = {graphs.format for graphs in bundle.manifest.graphs} & set(_MACHINE_CODE)
    if held:
        raise VisoloError(
            f"'{name}' holds {', '.join(sorted(held))}, machine code that is not taken from or "
            "sent to a hub: export the bundle without it"
        )


class _Unreachable(Exception):
    """The hub does not answer; its message is a sentence."""


@contextmanager
def _hub_errors(hub: Any, what: str) -> Iterator[None]:
    """Turn the hub's errors into sentences that hold no token."""
    errors = hub.errors
    try:
        yield
    except (VisoloError, _Unreachable):
        raise
    except errors.OfflineModeIsEnabled as error:
        raise _Unreachable(f"{what}: HF_HUB_OFFLINE forbids to ask the hub") from error
    except errors.GatedRepoError as error:
        raise VisoloError(f"{what}: its owner must grant access first") from error
    except errors.RepositoryNotFoundError as error:
        raise VisoloError(
            f"{what}: there is no such repository, or it is private and HF_TOKEN does not open it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise VisoloError(f"{what}: the repository has no such revision") from error
    except errors.EntryNotFoundError as error:
        raise VisoloError(f"{what}: a file that its manifest lists is missing") from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise VisoloError(f"{what}: HF_TOKEN is missing or does not allow it") from error
        if status is not None and status >= 500:
            raise _Unreachable(f"{what}: the hub answers with status {status}") from error
        raise VisoloError(f"{what}: the hub answers with status {status}") from error
    except errors.HFValidationError as error:
        raise VisoloError(f"{what}: the hub does not allow that name") from error
    except Exception as error:
        # The transport's own errors, whose library has changed from one version to the next.
        if isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith("http"):
            raise _Unreachable(f"{what}: the hub does not answer") from error
        raise


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _api(hub: Any) -> Any:
    return hub.HfApi(endpoint=_endpoint(), library_name="visolo", library_version=__version__)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise NotHereError(
            f"models on the hub need huggingface_hub: run {pip_install('hub')}"
        ) from error
    return huggingface_hub
