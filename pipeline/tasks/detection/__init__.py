"""Detection: boxes around what is in an image, of a class and with a score each."""
