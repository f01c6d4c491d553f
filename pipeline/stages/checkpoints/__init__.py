"""Checkpoints as people have them: what a file holds, without anything in it being run, and which of it are a model's weights."""
