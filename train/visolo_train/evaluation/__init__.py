"""Average precision, identity and reports. Works without PyTorch."""
