"""Frames a second of a model: the same as ``visolo bench``.

python benchmarks/fps.py MODEL [SOURCE] [--against OTHER] [--target-fps 40] ...
"""

from __future__ import annotations

import sys

from visolo_runtime.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
