"""Where pipelines run: one contract, in process and on Dataflow."""
