"""A dataset's partitions, and where their manifests are found."""

import datetime

from millrace.core import manifests
from millrace.gcloud.gcs import GcsStorage
from millrace.tasks.datasets import Dataset


def test_each_manifest_is_found_in_its_partition(gcs: GcsStorage) -> None:
    """Whether the partition is a day's, a key's, or all that there is of the dataset; alone and among others."""
    datasets = [Dataset("a"), Dataset("b", datetime.date(2026, 11, 1)), Dataset("c", key="k=1")]
    assert [dataset.partition for dataset in datasets] == ["a", "b/date=2026-11-01", "c/k=1"]
    for dataset in datasets:
        gcs.create(dataset.manifest_path, b"", {"of": dataset.name})
    for dataset in datasets:
        assert gcs.notes(manifests.NAME, [dataset.partition]) == {dataset.manifest_path: {"of": dataset.name}}
    found = gcs.notes(manifests.NAME, [dataset.name for dataset in datasets])
    assert found == {dataset.manifest_path: {"of": dataset.name} for dataset in datasets}
    assert list(gcs.list("", manifests.NAME)) == [dataset.manifest_path for dataset in datasets]
