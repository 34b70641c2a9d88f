"""The project's own model of digits, and the script that builds it."""
