"""Millrace, for tools that ask for a setup.py; what there is to say of the project stands in pyproject.toml."""

from setuptools import setup

setup()
