"""One command for people and cron: run, clear, query, doctor, luigid."""

import millrace.tasks  # noqa: F401 because what has to be done before luigi is imported is done there
