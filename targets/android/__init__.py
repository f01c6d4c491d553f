"""Runtimes that an Android app can load."""
