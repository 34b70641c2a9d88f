# Dataflow's workers with everything that pipelines need, so that none is installed while a job starts. Build it with the
# launcher's own Python, and again whenever pipelines/ changes: docs/google-cloud.md says how.
ARG PYTHON=3.11
ARG BEAM=2.77.0
FROM apache/beam_python${PYTHON}_sdk:${BEAM}

COPY constraints.txt millrace/beam/requirements.txt /tmp/millrace/
RUN pip install --no-cache-dir -c /tmp/millrace/constraints.txt -r /tmp/millrace/requirements.txt

# Beside Beam: a worker makes a virtual environment of its own, which sees what is installed for all.
COPY pipelines /tmp/millrace/pipelines
RUN cp -r /tmp/millrace/pipelines "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/" \
    && rm -r /tmp/millrace \
    && cd / && python -c 'import pipelines.posts.aggregate, pipelines.posts.count, pipelines.posts.etl, pipelines.posts.fetch'
