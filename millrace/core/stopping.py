"""What a process that is told to stop raises, so that what it waits for gets an end."""


class Stopped(BaseException):
    """Somebody told this process to stop."""
