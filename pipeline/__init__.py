"""The staged pipeline: from a configuration to a verified folder of artifacts."""
