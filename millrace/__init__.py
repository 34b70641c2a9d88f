"""Millrace: daily data workflows with Luigi, each stage one Apache Beam pipeline."""
