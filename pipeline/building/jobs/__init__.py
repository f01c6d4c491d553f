"""The kinds of jobs, a module each: what goes in, and how the result is made. Their order stands in `walk.py`."""
