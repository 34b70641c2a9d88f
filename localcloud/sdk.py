"""What gcloud and bq have to be told so that they work in the local cloud and ask nobody else."""

from collections.abc import Mapping
from pathlib import Path

from localcloud import PROJECT

_NOBODY = "localhost:1"
#: No questions, no reports of usage, no looking for newer components.
_QUIET = {
    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
}


def environment(folder: Path, storage: str, bigquery: str, dataflow: str, pubsub: str = "") -> Mapping[str, str]:
    """Return the variables with which gcloud and bq find the services at these addresses.

    pubsub: host and port of Google's emulator; without one gcloud asks a port where nobody is, and not the real one.

    folder: gets the configuration that they then have instead of the user's: a token that nobody checks, and bq's rc
    file.
    """
    config = folder / "gcloud"
    config.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text("fake\n", encoding="utf-8")
    rc = folder / "bigqueryrc"
    rc.write_text(f"project_id = {PROJECT}\napi = {bigquery}\n", encoding="utf-8")
    overrides = {
        "STORAGE": f"{storage}/storage/v1/",
        "BIGQUERY": f"{bigquery}/bigquery/v2/",
        "DATAFLOW": f"{dataflow}/",
        "PUBSUB": f"http://{pubsub or _NOBODY}/",
    }
    return {
        "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "BIGQUERYRC": str(rc),
        **_QUIET,
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": url for name, url in overrides.items()},
    }
