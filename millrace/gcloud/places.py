"""The places of a run in Google Cloud, by the settings: the bucket, the dataset, the region; and whether they fit.

A run asks before any job is paid for (tasks/preflight.py), and the doctor asks when somebody wants to know.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from millrace.core.findings import Finding, ok, warning, wrong
from millrace.gcloud.clients import Google

if TYPE_CHECKING:
    import google.cloud.bigquery as bigquery_api
    import google.cloud.storage as storage_api

#: Seconds for which a call that fails in passing is tried again, and after which a connection is taken for broken.
PATIENCE, TIMEOUT = 15.0, 30.0
#: The dual-regions that have a name of their own.
_PAIRS = {
    "nam4": ("us-central1", "us-east1"),
    "eur4": ("europe-north1", "europe-west4"),
    "eur5": ("europe-west1", "europe-west2"),
    "eur7": ("europe-west2", "europe-west3"),
    "eur8": ("europe-west3", "europe-west6"),
    "asia1": ("asia-northeast1", "asia-northeast2"),
}
#: The multi-regions: how the names of their regions begin, and one of them.
_CONTINENTS = {"us": ("us-", "us-central1"), "eu": ("europe-", "europe-west1"), "asia": ("asia-", "asia-northeast1")}
#: London and Zurich are in Europe, but not in the multi-region EU.
_NOT_EU = ("europe-west2", "europe-west6")


class Places:
    """The bucket and the dataset of some settings; each is asked about once."""

    def __init__(self, google: Google) -> None:
        self._google = google
        self._config = google.config

    @property
    def bucket_name(self) -> str:
        """The storage's bucket."""
        return self._config.storage.removeprefix("gs://").partition("/")[0]

    @property
    def staging(self) -> str:
        """The folder of the bucket in which Dataflow's files are."""
        folder = self._config.storage.removeprefix("gs://").partition("/")[2]
        return f"{folder}/_dataflow/" if folder else "_dataflow/"

    @cached_property
    def bucket(self) -> "storage_api.Bucket":
        """The bucket as Cloud Storage describes it. Raises SettingError, AccessError."""
        with self._google.told(f"read gs://{self.bucket_name}", PATIENCE):
            found = self._google.access.bucket(self._google.storage, self.bucket_name)
            found.reload(timeout=TIMEOUT, retry=self._google.retry(PATIENCE))
            return found

    @property
    def regions(self) -> Sequence[str]:
        """The regions that the bucket is in, or its one multi-region."""
        location = self.bucket.location.lower()
        if self.bucket.location_type == "dual-region" and self.bucket.data_locations:
            return [place.lower() for place in self.bucket.data_locations]
        return _PAIRS.get(location, (location,))

    @property
    def likely_region(self) -> str:
        """A region for Dataflow: the bucket's own, or one near it."""
        place = self.regions[0]
        return _CONTINENTS.get(place, ("", place))[1]

    @property
    def dataset_name(self) -> str:
        """The dataset as bq names it: PROJECT:DATASET."""
        return self._config.warehouse.removeprefix("bigquery://").replace("/", ":")

    @cached_property
    def dataset(self) -> "bigquery_api.Dataset":
        """The dataset as BigQuery describes it. Raises SettingError, AccessError."""
        with self._google.told(f"read dataset {self.dataset_name}", PATIENCE):
            name = self.dataset_name.replace(":", ".")
            return self._google.bigquery.get_dataset(name, retry=self._google.retry(PATIENCE), timeout=TIMEOUT)

    @property
    def dataset_place(self) -> str:
        """Where a dataset has to be, to be loaded from the bucket."""
        place = self.regions[0]
        return place.upper() if place in _CONTINENTS else place

    def region_fits(self) -> Finding:
        """Check that Dataflow's workers are where the bucket is; elsewhere they are slow, and traffic between regions
        costs.
        """
        name, places, region = self.bucket_name, self.regions, self._config.gcp.region.lower()
        if any(lies_in(region, place) for place in places):
            return ok(f"gs://{name} is in {'+'.join(places)}, Dataflow in {region}")
        return wrong(
            f"Dataflow runs in {region} (region, {self._config.origin('gcp', 'region')}), but gs://{name} lies in "
            f"{'+'.join(places)}: every byte would travel, slowly and for money; run the jobs there",
            set_in_config("gcp", "region", self.likely_region),
        )

    def dataset_fits(self) -> Finding:
        """Check that BigQuery can load from the bucket: one in the dataset's own region, or within its multi-region."""
        name, places, there = self.bucket_name, self.regions, self.dataset.location.lower()
        if all(lies_in(place, there) for place in places):
            return ok(f"the dataset is in {there}, gs://{name} in {'+'.join(places)}")
        near = self.dataset_place
        other = f"{self.dataset_name}_{near.lower().replace('-', '_')}"
        mend = (
            f"bq --location={near} mk --dataset {other}",
            set_in_config("millrace", "warehouse", f"bigquery://{other.replace(':', '/')}"),
        )
        text = f"gs://{name} lies in {'+'.join(places)}, the dataset in {there}"
        if there == "us":
            return warning(f"{text}: BigQuery loads from there all the same, but every byte travels", *mend)
        if any(lies_in(place, there) for place in places):
            return warning(
                f"{text}: a first load will show whether BigQuery loads from two regions into one of them", *mend
            )
        return wrong(
            f"{text}: BigQuery loads only from a bucket in the dataset's own region, or within its multi-region. "
            "Neither ever moves: make another dataset",
            *mend,
        )


def lies_in(place: str, location: str) -> bool:
    """Return whether a region, or multi-region, is the location or within it."""
    begin, _ = _CONTINENTS.get(location, ("no region", ""))
    return place == location or (place.startswith(begin) and not (location == "eu" and place in _NOT_EU))


def set_in_config(section: str, key: str, value: str) -> str:
    """Return what to write into luigi.cfg."""
    return f"luigi.cfg, [{section}]: {key} = {value}"
