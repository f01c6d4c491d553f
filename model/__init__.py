"""Architectures: one file each, with `NAME`, `OUTPUT_STRIDE` and `create(num_classes, width, activation)`.

A file that is dropped in and has ``create`` is an architecture that ``model.name`` knows; the others are helpers.
"""
