"""Keeps streams tracked by the servers behind a router, whichever of them are there.

    VISOLO_TOKEN=... python keep_streams.py http://router:8080 cameras.txt [--every 10]

A line of ``cameras.txt`` is a name and a source. Each stream is asked for again and again with a
lease: the server that a name belongs to begins it if it does not track it, and a server to which it
belongs no longer lets it go. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_LIMIT_S = 10.0


def cameras(text: str) -> dict[str, str]:
    """Sources by name; empty lines and those that begin with # say nothing."""
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    return {line[0]: line[1].strip() for line in lines if len(line) == 2 and line[0][0] != "#"}


def ask_for(router: str, name: str, source: str, lease_s: float, token: str) -> str:
    """Ask for a stream; returns what was wrong, or nothing."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"source": source, "name": name, "lease_s": lease_s}).encode()
    address = f"{router.rstrip('/')}/s/{name}/api/streams"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body, headers), timeout=_LIMIT_S
        ):
            return ""
    except urllib.error.HTTPError as error:
        try:
            return str(json.load(error)["error"])
        except (ValueError, KeyError, TypeError):
            return f"status {error.code}"
    except OSError as error:
        return str(error)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("router")
    parser.add_argument("cameras", type=Path)
    parser.add_argument("--every", type=float, default=10, help="seconds; the lease is three times")
    parser.add_argument("--rounds", type=int, default=0, help="0 goes on for ever")
    options = parser.parse_args()
    token, done = os.environ.get("VISOLO_TOKEN", ""), 0
    while True:
        for name, source in cameras(options.cameras.read_text()).items():
            if problem := ask_for(options.router, name, source, 3 * options.every, token):
                print(f"{name}: {problem}", file=sys.stderr)
        done += 1
        if done == options.rounds:
            return
        time.sleep(options.every)


if __name__ == "__main__":
    main()
