"""Runtimes: one file each below a platform's folder; a file that is dropped in is a new target."""
