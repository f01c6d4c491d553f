"""Architectures: one file each, with `NAME`, `OUTPUT_STRIDE` and `create(num_classes, width)`."""
