"""OpenVINO on the CPU, with graphs rewritten for speed."""
