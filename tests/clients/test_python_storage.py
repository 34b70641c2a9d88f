"""google-cloud-storage's own system tests, unchanged, as its source distribution has them."""

import re
import tarfile
from dataclasses import replace
from pathlib import Path

from client_running import Given, Program

#: What needs another service: IAM's credentials, Google's public data, or storage.googleapis.com itself.
ELSEWHERE = "access_token or anonymous_client or signed_list"
#: test_notification needs Pub/Sub, test_rapid gRPC, test_aco_observability what no endpoint of ours changes.
FILES = (
    "test_blob test_bucket test_client test_fileio test_hmac_key_metadata test_kms_integration test_transfer_manager "
    "test__signing"
).split()


def test_system_tests(given: Given, client: Program) -> None:
    """Blobs, buckets, clients, files, HMAC keys, KMS, transfers, signing: all that needs no other service."""
    version = client.succeed("-c", "from google.cloud import storage; print(storage.__version__)").strip()
    sources = ("--no-deps", "--no-binary=:all:", f"google-cloud-storage=={version}")
    client.succeed("-m", "pip", "-q", "download", *sources)
    (archive,) = given.folder.glob("google_cloud_storage-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(given.folder, filter="data")
    root = given.folder / archive.name.removesuffix(".tar.gz")
    named = [root / "tests" / "system" / f"{name}.py" for name in FILES]
    tester = replace(
        client,
        more={
            "PYTHONPATH": str(Path(__file__).parent),
            "GOOGLE_CLOUD_TESTS_USER_PROJECT": given.environment["GOOGLE_CLOUD_PROJECT"],
            "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
        },
    )
    ran = tester(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "program_system_tests", f"--rootdir={root}",
        "-k", f"not ({ELSEWHERE})", *named,
    )  # fmt: skip
    assert ran.code == 0, ran
    passed = re.search(r"(\d+) passed", ran.out)
    assert passed
    assert int(passed[1]) > 150
