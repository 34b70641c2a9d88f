"""What is computed: Apache Beam pipelines. Ships to workers; knows no luigi, no workflow, no manifest."""
