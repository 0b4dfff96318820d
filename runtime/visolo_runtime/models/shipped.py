"""Models that come with the package, and how a model is named.

On a command line and in Python a text that is one of these names means the model in the package; a
folder or a file of that name is written ``./everyday``, or as a ``Path``. A text that begins with
``hf://`` names a model on the hub.
"""

from __future__ import annotations

from pathlib import Path

from visolo_runtime.models import HUB

_FOLDER = Path(__file__).parent
_STEMS = {"everyday": "everyday", "shapes": "lite"}
SHIPPED = tuple(_STEMS)
"""Names of the models: ``everyday`` knows people, vehicles and animals, ``shapes`` six drawn
shapes; their cards lie beside them."""


def shipped_model(name: str = "shapes") -> Path:
    """The bundle of a model in the package.

    Args:
        name: one of ``SHIPPED``.
    """
    return _FOLDER / f"{_STEMS[name]}.visolo"


def shipped_weights(name: str = "shapes") -> Path:
    """The weights of a model in the package, to train from and to compare with.

    Args:
        name: one of ``SHIPPED``.
    """
    return _FOLDER / f"{_STEMS[name]}.safetensors"


def model_path(model: str | Path) -> Path:
    """Where a model lies; one on the hub is downloaded first.

    Args:
        model: one of ``SHIPPED``, an address that begins with ``hf://``, or a path.

    Raises:
        VisoloError: if it cannot be had from the hub.

    >>> model_path("shapes").name, str(model_path("./shapes")), str(model_path(Path("shapes")))
    ('lite.visolo', 'shapes', 'shapes')
    """
    if isinstance(model, str) and model in _STEMS:
        return shipped_model(model)
    if isinstance(model, str) and model.startswith(HUB):
        from visolo_runtime.models.hub import fetch

        return fetch(model)
    return Path(model)
