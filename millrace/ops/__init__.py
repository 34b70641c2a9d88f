"""The commands behind bin/. Each module is run by `python -m`."""
