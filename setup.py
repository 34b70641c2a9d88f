"""Millrace's packages. Workers install what pipelines need; the extras are for where workflows run."""

from pathlib import Path

from setuptools import find_packages, setup

WORKERS = Path(__file__).with_name("millrace").joinpath("beam", "requirements.txt").read_text(encoding="utf-8").split()
WORKFLOWS = [
    "altair>=6,<7",
    "duckdb>=2.0,<3",
    "google-cloud-bigquery>=3.30",
    "google-cloud-dataflow-client>=0.13",
    "google-cloud-storage>=3",
    "idna>=3.7",
    "jinja2>=3.1",
    "luigi>=3.8,<3.9",  # scheduler.py builds on how its worker is made
    "orjson>=3.10",
    "rich>=13",
    "sqlglot>=30.20",
    "vl-convert-python>=1.9",
]
TEST = [
    "aiosmtpd>=1.4.6",
    "gcp-storage-emulator>=2026.7.19",
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "selenium>=4.20",
    "uv>=0.5",  # the lowest versions that are promised
    "wheel>=0.45",  # the local Dataflow installs what a job stages, be it an sdist
]
LINT = ["mypy>=2", "ruff>=0.17", "types-requests"]

setup(
    name="millrace",
    version="0.1.0",
    description="Daily data workflows with Luigi, each stage one Apache Beam pipeline",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["bigquery_sql*", "localcloud*", "millrace*", "pipelines*", "workflows*"]),
    package_data={
        "bigquery_sql": ["*.sql"],
        "millrace.beam": ["requirements.txt"],
        "workflows.report": ["queries/*.sql", "templates/*.j2", "templates/*.css"],
    },
    install_requires=WORKERS,
    extras_require={"workflows": WORKFLOWS, "test": TEST, "lint": LINT},
)
