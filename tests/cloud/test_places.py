"""Where the bucket of a run lies, and what has to be near it."""

from collections.abc import Sequence

import pytest

from millrace.core.config import Config, Gcp
from millrace.gcloud.clients import Google
from millrace.gcloud.places import Places

#: As https://cloud.google.com/storage/docs/locations has them.
PAIRS = {
    "ASIA1": ["asia-northeast1", "asia-northeast2"],
    "EUR4": ["europe-north1", "europe-west4"],
    "EUR5": ["europe-west1", "europe-west2"],
    "EUR7": ["europe-west2", "europe-west3"],
    "EUR8": ["europe-west3", "europe-west6"],
    "NAM4": ["us-central1", "us-east1"],
}


def places(location: str, pair: Sequence[str] = (), region: str = "") -> Places:
    """The places of a run whose bucket was made in a location, or in two regions of it that somebody chose."""
    google = Google(Config(storage="gs://there/data", gcp=Gcp(region=region)))
    google.storage.create_bucket("there", location=location, data_locations=list(pair) or None)
    return Places(google)


@pytest.mark.parametrize(
    ("location", "pair", "regions", "near", "dataset"),
    [
        ("europe-west3", [], ["europe-west3"], "europe-west3", "europe-west3"),
        ("US", [], ["us"], "us-central1", "US"),
        ("EU", [], ["eu"], "europe-west1", "EU"),
        ("ASIA", [], ["asia"], "asia-northeast1", "ASIA"),
        ("US", ["US-EAST4", "US-WEST1"], ["us-east4", "us-west1"], "us-east4", "us-east4"),
        *((name, [], pair, pair[0], pair[0]) for name, pair in PAIRS.items()),
    ],
)
@pytest.mark.usefixtures("service")
def test_a_bucket_lies_in_a_region_a_continent_or_two_regions(
    location: str, pair: list[str], regions: list[str], near: str, dataset: str
) -> None:
    """Which have a name of their own, or were chosen; jobs and the dataset go to one of them."""
    found = places(location, pair)
    assert list(found.regions) == regions
    assert (found.likely_region, found.dataset_place) == (near, dataset)


@pytest.mark.parametrize(
    ("location", "region", "state"),
    [
        ("NAM4", "us-east1", "ok"),
        ("NAM4", "us-west1", "wrong"),
        ("EU", "europe-west2", "wrong"),
        ("US", "US-EAST4", "ok"),
    ],
)
@pytest.mark.usefixtures("service")
def test_jobs_run_where_the_bucket_is(location: str, region: str, state: str) -> None:
    """In any region of it; London is not in EU. Elsewhere the setting is named, with a region that is."""
    found = places(location, region=region)
    finding = found.region_fits()
    assert finding.state == state
    assert finding.mend == ((f"luigi.cfg, [gcp]: region = {found.likely_region}",) if state == "wrong" else ())
