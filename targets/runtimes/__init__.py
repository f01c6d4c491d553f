"""The runtimes that run artifacts: one module each, a `Runtime`. `twinkeel replay` sends them to other machines, so they
import nothing of this project but errors, and numpy; Python 3.10."""
