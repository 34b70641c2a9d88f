"""What ships to workers."""
