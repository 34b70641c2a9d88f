"""What pipelines are made of; it ships to workers."""
