"""Architectures: one file each, with `create(num_classes, width)` and, where they apply, ``activation`` and ``padding``.

A file that is dropped in and has ``create`` is an architecture that ``model.name`` knows; the others are helpers. One of
several variants has ``RESOLUTIONS``, by name, and ``create`` takes the name.
"""
