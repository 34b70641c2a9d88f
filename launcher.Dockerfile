# The launcher where no machine waits: a container that Cloud Run, or whatever else, starts now and then. Its one command runs a
# task without waiting and ends (docs/serverless.md). Build it with the same Python as the workers' image (worker.Dockerfile),
# and again whenever millrace/, pipelines/ or workflows/ changes.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# The library and what it needs, at the versions of constraints.txt; EXTRAS=workflows,digits for the workflow of digits,
# EXTRAS=workflows,events for the function of docs/events.md. In a project with the library installed, `RUN pip install
# 'millrace[workflows]'` takes the place of these lines.
ARG EXTRAS=workflows
COPY constraints.txt pyproject.toml setup.py README.md LICENSE /tmp/millrace/
COPY bigquery_sql /tmp/millrace/bigquery_sql
COPY localcloud /tmp/millrace/localcloud
COPY millrace /tmp/millrace/millrace
RUN pip install --no-cache-dir -c /tmp/millrace/constraints.txt "/tmp/millrace[${EXTRAS}]" \
    && rm -r /tmp/millrace

# The project: its tasks, what ships to workers, and its settings.
COPY pipelines /srv/millrace/pipelines
COPY workflows /srv/millrace/workflows
COPY graphs /srv/millrace/graphs
COPY luigi.cfg /srv/millrace/luigi.cfg
WORKDIR /srv/millrace
# A firing takes seconds, and compiling would take some of them each time.
RUN echo 'from millrace.ops.on_event import on_event' >main.py && python -m compileall -q . && millrace fire --help

# Nobody in particular: nothing has to be written but in /tmp.
USER 65534:65534
ENTRYPOINT ["millrace", "fire"]
CMD ["Report"]
