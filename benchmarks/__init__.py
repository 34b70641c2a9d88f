"""Benchmarks: Millrace beside a hand-written DuckDB script and a plain row-by-row Beam pipeline."""
