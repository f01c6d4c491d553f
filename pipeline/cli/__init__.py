"""The command line; the one room that sees models, pipeline and targets."""

from .command import cli as cli
from .command import main as main
