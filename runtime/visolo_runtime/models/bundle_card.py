"""The card of a bundle, as a hub shows it: what it detects, what it was made of, how it is run."""

from __future__ import annotations

from visolo_runtime.bundle import Manifest

_TAGS = ("video-instance-segmentation", "object-tracking", "onnx", "visolo")


def bundle_card(manifest: Manifest, name: str) -> str:
    """Markdown with the front matter that hubs read.

    Args:
        manifest: of the bundle.
        name: what to write where a model is named, such as ``hf://owner/name``.
    """
    height, width = manifest.model.input_size
    forms = ", ".join(f"{each.format} {each.precision}" for each in manifest.graphs)
    megabytes = sum(entry.size for entry in manifest.files.values()) / 1e6
    rows = {
        "detects": ", ".join(_plain(label) for label in manifest.labels.names),
        "network": f"VISOLO on {manifest.model.backbone}, input {width}x{height}",
        "graphs": f"{forms}; {megabytes:.1f} MB",
        "stored frames": f"{manifest.slots} at most",
        "streams at once": str(manifest.batch),
        "weights": manifest.weights_sha256 or "not recorded",
        "made with": ", ".join(f"{key} {value}" for key, value in manifest.producer.items()),
    }
    if manifest.calibration:
        rows["calibrated on"] = f"{manifest.calibration.frames} frames"
    if manifest.parity:
        parity = manifest.parity
        rows["compared with its weights"] = (
            f"{parity.form}, {parity.frames} frames: {'passed' if parity.passed else 'FAILED'}"
        )
    table = "\n".join(f"| {key} | {_plain(value)} |" for key, value in rows.items())
    front = "\n".join(f"  - {tag}" for tag in _TAGS)
    return f"""---
library_name: visolo
pipeline_tag: image-segmentation
tags:
{front}
---
# {name.rsplit("/", 1)[-1]}
Every object in a video gets a mask, a class and a number that stays with it.

| | |
|---|---|
{table}

```
visolo run {name} video.mp4 --video annotated.mp4
```
```python
import visolo

for frame, instances in visolo.track("{name}", "video.mp4"):
    for each in instances:
        print(each.track_id, each.label, each.score, each.box)
```
"""


def _plain(text: str) -> str:
    """Text that cannot leave its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
