"""Data sets: read, checked, mapped, split, drawn and pasted. Works without PyTorch."""
