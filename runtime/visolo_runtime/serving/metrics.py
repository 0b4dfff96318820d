"""The server's measurements in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator

from visolo_runtime.bench import resident_mb
from visolo_runtime.serving.hub import Hub


def metrics(hub: Hub, viewers: int, sent_bytes: int) -> str:
    """One line a measurement."""
    return "\n".join(_lines(hub, viewers, sent_bytes)) + "\n"


def _lines(hub: Hub, viewers: int, sent_bytes: int) -> Iterator[str]:
    streams = hub.streams()
    totals = (
        ("visolo_streams", "gauge", sum(not each.over for each in streams)),
        ("visolo_streams_limit", "gauge", hub.capacity),
        ("visolo_viewers", "gauge", viewers),
        ("visolo_sent_bytes_total", "counter", sent_bytes),
        ("visolo_step_seconds_total", "counter", round(hub.step_seconds, 6)),
        ("visolo_resident_bytes", "gauge", round(resident_mb() * 1e6)),
        ("visolo_up", "gauge", int(hub.healthy)),
    )
    for name, kind, value in totals:
        yield f"# TYPE {name} {kind}"
        yield f"{name} {value}"
    described = [(each.number, each.describe()) for each in streams]
    for name, kind, key in (
        ("visolo_stream_frames_total", "counter", "frames"),
        ("visolo_stream_dropped_total", "counter", "dropped"),
        ("visolo_stream_fps", "gauge", "fps"),
    ):
        yield f"# TYPE {name} {kind}"
        for number, each in described:
            yield f'{name}{{stream="{number}"}} {each[key]}'
    yield "# TYPE visolo_stream_latency_ms gauge"
    for number, each in described:
        for quantile, key in (("0.5", "p50"), ("0.99", "p99")):
            value = each["latency_ms"][key]
            yield f'visolo_stream_latency_ms{{stream="{number}",quantile="{quantile}"}} {value}'
