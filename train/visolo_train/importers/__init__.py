"""Annotations of other programs as data sets in YouTube-VIS format, and back."""
