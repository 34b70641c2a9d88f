"""The tasks of luigi: stages, targets, settings, and how a run looks and ends."""

from millrace.tasks import surroundings

surroundings.settle()  # before luigi is imported, which reads its settings then
