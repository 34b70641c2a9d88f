"""The source of posts that is built in; the others are the library's."""

SAMPLE = "sample://"
