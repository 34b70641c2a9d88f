# Dataflow's workers with everything that pipelines need, so that none is installed while a job starts. Build it with the
# launcher's own Python, and again whenever pipelines/ or millrace/ changes: docs/google-cloud.md says how.
ARG PYTHON=3.11
ARG BEAM=2.77.0
# Of this image one program is taken, which starts a flex template's job (docs/templates.md).
ARG LAUNCHER=gcr.io/dataflow-templates-base/python311-template-launcher-base
FROM ${LAUNCHER} AS launcher
FROM apache/beam_python${PYTHON}_sdk:${BEAM}

COPY constraints.txt millrace/beam/requirements.txt /tmp/millrace/
COPY pipelines/digits/requirements.txt /tmp/millrace/digits.txt
RUN pip install --no-cache-dir -c /tmp/millrace/constraints.txt -r /tmp/millrace/requirements.txt -r /tmp/millrace/digits.txt

# What the launcher would ship: of the library what runs on workers, and the pipelines. In a project with the library
# installed, `RUN pip install millrace` takes the place of the first three lines.
COPY millrace/__init__.py millrace/errors.py /tmp/millrace/packages/millrace/
COPY millrace/common /tmp/millrace/packages/millrace/common
COPY millrace/beam /tmp/millrace/packages/millrace/beam
COPY pipelines /tmp/millrace/packages/pipelines
# Beside Beam: a worker makes a virtual environment of its own, which sees what is installed for all.
RUN cp -r /tmp/millrace/packages/. "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/" \
    && rm -r /tmp/millrace \
    && cd / && python -c 'import pipelines.posts.aggregate, pipelines.posts.count, pipelines.posts.etl, pipelines.posts.fetch, \
        pipelines.posts.window, pipelines.digits.load, pipelines.digits.score, pipelines.digits.stream'

# What the image runs where it is a flex template's: the pipeline that MILLRACE_TEMPLATE names.
ARG TEMPLATE=pipelines.posts.window
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY flex_template.py /opt/millrace/flex_template.py
ENV MILLRACE_TEMPLATE=${TEMPLATE} FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/millrace/flex_template.py
