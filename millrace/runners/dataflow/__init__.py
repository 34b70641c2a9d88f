"""Pipelines as jobs of Dataflow."""
