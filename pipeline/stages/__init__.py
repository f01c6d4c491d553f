"""The stages a model passes through before any runtime knows of it; their order stands in `steps.py`."""
