"""Architectures: one file each, with `NAME`, `OUTPUT_STRIDE` and `create(num_classes, width, activation)`.

A file that is dropped in is an architecture that ``model.name`` knows; one with a leading underscore is a helper.
"""
