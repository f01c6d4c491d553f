"""Runtimes that an iOS app can load."""
