"""bin/doctor as a real process against the local cloud: each thing that can be wrong, in turn, and what mends it."""

import configparser
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import cloud_running
import pytest
import running
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from running import Ran

from localcloud import BUCKET, DATASET, LOCATION, PROJECT, REGION, LocalCloud
from localcloud.faults import Fault
from localcloud.projects import NUMBER, Projects
from millrace.core.findings import NOT_ASKED, WRONG, ok, wrong
from millrace.gcloud import places
from millrace.ops.checks.findings import Check, examine

LAUNCHER = f"launcher@{PROJECT}.iam.gserviceaccount.com"
WORKERS = f"{NUMBER}-compute@developer.gserviceaccount.com"
PERSON = '--member="user:$(gcloud config get account)"'
EDITOR = (
    "bq --location=US query --use_legacy_sql=false "
    f'"GRANT \\`roles/bigquery.dataEditor\\` ON SCHEMA \\`{PROJECT}\\`.\\`{DATASET}\\` '
    "TO 'user:$(gcloud config get account)'\""
)
PROJECT_GRANT = f"gcloud projects add-iam-policy-binding {PROJECT} {PERSON} --condition=None --role="
BUCKET_GRANT = f"gcloud storage buckets add-iam-policy-binding gs://{BUCKET} {PERSON} --role="
ACCOUNT_GRANT = f"gcloud iam service-accounts add-iam-policy-binding {{}} --project={PROJECT} {PERSON} --role="
LIFECYCLE = {"action": {"type": "Delete"}, "condition": {"age": 14, "matchesPrefix": ["data/_dataflow/"]}}


@dataclass
class World:
    """A project's folder, in a local cloud in which all is well."""

    project: Path
    cloud: LocalCloud
    projects: Projects
    packages: Path
    config: configparser.RawConfigParser
    env: dict[str, str] = field(default_factory=dict)

    def set(self, section: str, **values: str) -> None:
        """Changes luigi.cfg."""
        self.config.read_dict({section: values})

    def patch_bucket(self, **properties: object) -> None:
        """Changes properties of the bucket, by their names in the API."""
        bucket = cloud_running.bucket(self.cloud)
        for name, value in properties.items():
            bucket._patch_property(name, value)
        bucket.patch()

    def doctor(self) -> Ran:
        """Runs bin/doctor."""
        with (self.project / "luigi.cfg").open("w", encoding="utf-8") as file:
            self.config.write(file)
        env = running.environment(PYTHONPATH=f"{self.packages}:{self.project}")
        del env["LUIGI_CONFIG_PATH"]
        env |= {**self.cloud.environment(), "NO_GCE_CHECK": "true"}
        # Whatever would leave this machine runs into a closed port.
        env |= {"https_proxy": "http://127.0.0.1:9", "CLOUDSDK_CONFIG": str(self.project), "HOME": str(self.project)}
        env |= self.env
        return running.run([self.project / "bin" / "doctor"], Path("/"), {k: v for k, v in env.items() if v})


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation tells of Millrace: its version and the ranges of pyproject.toml."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder],
        cwd=running.ROOT,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def world(project: Path, packages: Path) -> Iterator[World]:
    with LocalCloud() as cloud:
        projects = cloud.projects
        config = configparser.RawConfigParser()
        config.read(running.ROOT / "luigi.cfg", encoding="utf-8")
        config.read_string(cloud.settings())
        projects.roles["roles/dataflow.worker"] = [f"serviceAccount:{WORKERS}"]
        world = World(project, cloud, projects, packages, config)
        world.patch_bucket(lifecycle={"rule": [LIFECYCLE]})
        yield world


def findings(ran: Ran) -> dict[str, tuple[str, str]]:
    """What was printed, by check: the state, and the sentence with the commands below it."""
    found: dict[str, tuple[str, str]] = {}
    name = ""
    for line in ran.out.splitlines():
        if begin := re.fullmatch(r"  (ok|warning|wrong|not asked)  +(\S.*?)  +(\S.*)", line):
            state, name, said = begin.groups()
            found[name] = (state, said)
        elif name and line.startswith("   "):
            state, said = found[name]
            found[name] = (state, f"{said} {line.strip()}" if line.startswith(" " * 30) else f"{said}\n{line.strip()}")
        else:
            name = ""
    return found


def test_all_is_well(world: World) -> None:
    """Everything is asked for, everything is in order, the exit code is 0; the table that was made is gone again."""
    ran = world.doctor()
    assert ran.code == 0, ran
    found = findings(ran)
    assert {state for state, _ in found.values()} == {"ok"}, ran
    assert len(found) == 19, ran
    assert ran.err == ""
    changes = [(each.call, each.status) for each in world.cloud.requests if each.effect]
    assert changes == [("tables.insert", 200), ("tables.delete", 204)]


# ------------------------------------------------------------------------------------------------------- in the cloud

#: What makes something wrong, and of the check that sees it: the name, the state, and a part of what is said and mends.
Case: TypeAlias = tuple[Callable[[World], None], str, str, str, str]


def deny(*permissions: str) -> Callable[[World], None]:
    """Nobody has some permissions, in whichever service they are."""

    def change(world: World) -> None:
        world.projects.denied.update(permissions)
        world.cloud.storage.denied.update(permissions)
        world.cloud.bigquery.deny(*permissions)

    return change


def configure(section: str, **values: str) -> Callable[[World], None]:
    """luigi.cfg says something else."""
    return lambda world: world.set(section, **values)


def key_of_account(world: World) -> None:
    """The credentials are a service account's key, which has been withdrawn."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = world.project / "key.json"
    about = {"type": "service_account", "client_email": LAUNCHER}
    secret = {"private_key": key.private_bytes(*plain).decode(), "token_uri": f"{world.projects.url}/token"}
    path.write_text(json.dumps({**about, **secret, "project_id": PROJECT}))
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    world.projects.good_keys = False


def nameless(world: World) -> None:
    """Nobody says which project it is."""
    world.set("gcp", project="")
    world.env["GOOGLE_CLOUD_PROJECT"] = ""


def other_bucket(location: str) -> Callable[[World], None]:
    """The storage is a bucket that lies elsewhere."""

    def change(world: World) -> None:
        world.cloud.storage.create_bucket("elsewhere", location)
        world.set("millrace", storage="gs://elsewhere/data")

    return change


in_europe = other_bucket("europe-west3")


def other_dataset(world: World) -> None:
    """The warehouse is a dataset in Europe."""
    world.cloud.bigquery.create_dataset("european", "EU")
    world.set("millrace", warehouse=f"bigquery://{PROJECT}/european")


def two_regions(world: World) -> None:
    """The storage is a bucket in two regions, the dataset lies in one of them."""
    other_bucket("NAM4")(world)
    world.cloud.bigquery.create_dataset("central", "us-central1")
    world.set("millrace", warehouse=f"bigquery://{PROJECT}/central")


def refuse_list(world: World) -> None:
    world.cloud.faults.at(1, Fault("status", status=403), call="jobs.list", service="dataflow")


def retain(world: World) -> None:
    world.patch_bucket(retentionPolicy={"retentionPeriod": "60", "effectiveTime": "2026-01-01T00:00:00Z"})


def keep_versions(world: World) -> None:
    world.patch_bucket(versioning={"enabled": True})


def lifecycle(**condition: object) -> Callable[[World], None]:
    """Besides the bucket's rule there is another one that deletes."""
    rule = {"action": {"type": "Delete"}, "condition": condition}
    return lambda world: world.patch_bucket(lifecycle={"rule": [LIFECYCLE, rule]})


def apart_and_denied(world: World) -> None:
    in_europe(world)
    deny("bigquery.tables.create")(world)


def old_versions_go(world: World) -> None:
    """Versions are kept, for a week."""
    keep_versions(world)
    lifecycle(daysSinceNoncurrentTime=7)(world)


def no_lifecycle(world: World) -> None:
    world.patch_bucket(lifecycle={"rule": []})


def no_worker_role(world: World) -> None:
    world.projects.roles.clear()


def unknown_account(world: World) -> None:
    account = f"workers@{PROJECT}.iam.gserviceaccount.com"
    world.projects.unknown.add(account)
    world.set("dataflow.Etl", service_account_email=account)


@pytest.mark.parametrize(
    "cases",
    [
        [
            (
                lambda world: world.env.update(GOOGLE_APPLICATION_CREDENTIALS=""),
                "credentials",
                "wrong",
                "there are no Google Cloud credentials",
                "gcloud auth application-default login",
            ),
        ],
        [
            (
                key_of_account,
                "credentials",
                "wrong",
                "Invalid JWT Signature",
                "unset GOOGLE_APPLICATION_CREDENTIALS\ngcloud auth application-default login",
            ),
        ],
        [
            (
                lambda world: (
                    (configure("gcp", impersonate=LAUNCHER)(world)) or deny("iam.serviceAccounts.getAccessToken")(world)
                ),
                "credentials",
                "wrong",
                f"nobody here may act as {LAUNCHER}",
                ACCOUNT_GRANT.format(LAUNCHER) + "roles/iam.serviceAccountTokenCreator",
            ),
        ],
        [
            (nameless, "project", "wrong", "no Google Cloud project is known", "gcloud projects list"),
        ],
        [
            (
                configure("gcp", project="another"),
                "APIs",
                "wrong",
                "does not exist, or does not show its APIs",
                "gcloud services enable serviceusage.googleapis.com --project=another\n"
                + PROJECT_GRANT.replace(PROJECT, "another")
                + "roles/serviceusage.serviceUsageConsumer",
            ),
        ],
        [
            (
                lambda world: world.projects.disabled.update({"dataflow.googleapis.com", "compute.googleapis.com"}),
                "APIs",
                "wrong",
                "not enabled: dataflow.googleapis.com, compute.googleapis.com",
                f"gcloud services enable dataflow.googleapis.com compute.googleapis.com --project={PROJECT}",
            ),
        ],
        [
            (
                configure("millrace", storage="gs://nowhere/data"),
                "bucket",
                "wrong",
                "gs://nowhere does not exist (storage, read in",
                f"gcloud storage buckets create gs://nowhere --project={PROJECT} --location={REGION} "
                "--uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0",
            ),
        ],
        [
            (
                deny("storage.buckets.get"),
                "bucket",
                "wrong",
                "does not show itself",
                BUCKET_GRANT + "roles/storage.legacyBucketReader",
            ),
        ],
        [
            (
                retain,
                "bucket",
                "wrong",
                "retains every object",
                f"gcloud storage buckets update gs://{BUCKET} --clear-retention-period",
            ),
        ],
        [
            (
                configure("millrace", storage="data"),
                "bucket",
                "wrong",
                "is a folder, which neither Dataflow nor BigQuery can read",
                f"luigi.cfg, [millrace]: storage = gs://{PROJECT}-millrace/data",
            ),
        ],
        [
            (
                deny("storage.objects.delete", "storage.objects.update"),
                "bucket's permissions",
                "wrong",
                "not granted: storage.objects.update, storage.objects.delete",
                BUCKET_GRANT + "roles/storage.objectUser",
            ),
            (
                no_lifecycle,
                "bucket's lifecycle",
                "warning",
                f"nothing ever deletes what Dataflow leaves in gs://{BUCKET}/data/_dataflow/",
                f"echo '{json.dumps({'rule': [LIFECYCLE]})}' >lifecycle.json\n"
                f"gcloud storage buckets update gs://{BUCKET} --lifecycle-file=lifecycle.json",
            ),
            (
                deny("bigquery.jobs.create"),
                "BigQuery jobs",
                "wrong",
                "not granted: bigquery.jobs.create",
                PROJECT_GRANT + "roles/bigquery.jobUser",
            ),
            (
                deny("bigquery.tables.updateData", "bigquery.tables.getData"),
                "tables",
                "wrong",
                "not granted: bigquery.tables.getData, bigquery.tables.updateData",
                EDITOR,
            ),
            (
                deny("dataflow.jobs.create", "dataflow.metrics.get"),
                "Dataflow jobs",
                "wrong",
                "not granted: dataflow.jobs.create, dataflow.metrics.get",
                PROJECT_GRANT + "roles/dataflow.developer",
            ),
            (
                no_worker_role,
                "workers' roles",
                "warning",
                f"{WORKERS} can't work",
                PROJECT_GRANT.replace("user:$(gcloud config get account)", f"serviceAccount:{WORKERS}")
                + "roles/dataflow.worker",
            ),
            (
                configure("dataflow", machine_typ="n2-standard-4"),
                "Dataflow options",
                "wrong",
                "Beam has no such option; did you mean machine_type?",
                "",
            ),
        ],
        [
            (
                lifecycle(age=30),
                "bucket's lifecycle",
                "warning",
                "deletes results some day, not only what is in data/_dataflow/",
                f"echo '{json.dumps({'rule': [LIFECYCLE]})}' >lifecycle.json",
            ),
            (
                configure("bigquery", location="EU"),
                "dataset",
                "wrong",
                "lies in US, but the settings say EU",
                "luigi.cfg, [bigquery]: location = US",
            ),
            (
                deny("iam.serviceAccounts.actAs"),
                "workers' account",
                "wrong",
                f"not granted: iam.serviceAccounts.actAs on the workers' account {WORKERS}",
                ACCOUNT_GRANT.format(WORKERS) + "roles/iam.serviceAccountUser",
            ),
            (configure("gcp", region=""), "region", "wrong", "no region", "luigi.cfg, [gcp]: region = us-central1"),
            (
                configure("dataflow.Elt", machine_type="n2-standard-4"),
                "Dataflow options",
                "wrong",
                "[dataflow.Elt] names no task",
                "write [dataflow.Etl]",
            ),
        ],
        [
            (
                lifecycle(age=30, matchesPrefix=["data/"]),
                "bucket's lifecycle",
                "warning",
                "deletes results some day, not only what is in data/_dataflow/",
                f"echo '{json.dumps({'rule': [LIFECYCLE]})}' >lifecycle.json",
            ),
            (
                other_dataset,
                "dataset's location",
                "wrong",
                f"gs://{BUCKET} lies in us, the dataset in eu: BigQuery loads only from",
                f"bq --location=US mk --dataset {PROJECT}:european_us\n"
                f"luigi.cfg, [millrace]: warehouse = bigquery://{PROJECT}/european_us",
            ),
            (
                deny("resourcemanager.projects.getIamPolicy"),
                "workers' roles",
                "not asked",
                "only somebody who may read the project's policy can see that",
                "",
            ),
            (
                configure("gcp", region="mars"),
                "region",
                "wrong",
                "Dataflow does not know the region mars (read in",
                f"gcloud compute regions list --project={PROJECT}\nluigi.cfg, [gcp]: region = us-central1",
            ),
        ],
        [
            (
                lifecycle(matchesPrefix=["data/raw/"]),
                "bucket's lifecycle",
                "warning",
                "deletes results some day, not only what is in data/_dataflow/",
                f"echo '{json.dumps({'rule': [LIFECYCLE]})}' >lifecycle.json",
            ),
            (deny("bigquery.datasets.get"), "dataset", "wrong", "does not show itself", EDITOR),
            (
                unknown_account,
                "workers' account",
                "wrong",
                f"the workers' account workers@{PROJECT}.iam.gserviceaccount.com does not exist",
                f"gcloud iam service-accounts create workers --project={PROJECT}",
            ),
            (
                refuse_list,
                "region",
                "wrong",
                "not granted: dataflow.jobs.list",
                PROJECT_GRANT + "roles/dataflow.developer",
            ),
        ],
        [
            (
                lifecycle(age=30, matchesPrefix=["other/"]),
                "bucket's lifecycle",
                "ok",
                "what is in data/_dataflow/ is deleted some day",
                "",
            ),
            (deny("bigquery.tables.create"), "tables", "wrong", "not granted: bigquery.tables.create", EDITOR),
        ],
        [
            (
                old_versions_go,
                "bucket's lifecycle",
                "ok",
                "what is in data/_dataflow/ is deleted some day",
                "",
            ),
            (
                configure("millrace", warehouse=f"bigquery://{PROJECT}/nothing"),
                "dataset",
                "wrong",
                f"dataset {PROJECT}:nothing does not exist",
                f"bq --location={LOCATION} mk --dataset {PROJECT}:nothing",
            ),
        ],
        [
            (
                keep_versions,
                "bucket's lifecycle",
                "warning",
                "keeps every old version",
                f"gcloud storage buckets update gs://{BUCKET} --no-versioning",
            ),
        ],
        [
            (
                in_europe,
                "bucket's region",
                "wrong",
                f"Dataflow runs in {REGION}",
                "luigi.cfg, [gcp]: region = europe-west3",
            ),
            (
                in_europe,
                "dataset's location",
                "warning",
                "every byte travels",
                f"bq --location=europe-west3 mk --dataset {PROJECT}:millrace_europe_west3",
            ),
        ],
        [
            (
                two_regions,
                "dataset's location",
                "warning",
                "gs://elsewhere lies in us-central1+us-east1, the dataset in us-central1: a first load will show",
                "bq --location=",
            ),
        ],
        [
            (
                apart_and_denied,
                "tables",
                "wrong",
                "not granted: bigquery.tables.create",
                EDITOR,  # where the dataset lies, not the bucket
            ),
        ],
    ],
)
def test_what_is_wrong_and_what_mends_it(world: World, cases: Sequence[Case]) -> None:
    """The check's line says what is wrong, the lines below it the very command that mends it; the exit code tells.

    What has nothing to do with each other is wrong at once, and each said as if it were alone.
    """
    for change in {case[0]: None for case in cases}:
        change(world)
    ran = world.doctor()
    found = findings(ran)
    for _, check, state, said, mend in cases:
        assert check in found, ran
        assert found[check][0] == state, ran
        assert said in found[check][1], ran
        assert mend in found[check][1], ran
    assert ran.code == (1 if any(each == "wrong" for each, _ in found.values()) else 0), ran
    if any(state == "wrong" for _, _, state, *_ in cases):
        assert ran.code == 1, ran


def test_impersonation_that_works(world: World) -> None:
    """With [gcp] impersonate the account that is acted as is asked about, and named in commands."""
    world.set("gcp", impersonate=LAUNCHER)
    deny("dataflow.jobs.cancel")(world)
    found = findings(world.doctor())
    assert found["credentials"] == ("ok", f"those of {LAUNCHER}")
    assert f'--member="serviceAccount:{LAUNCHER}"' in found["Dataflow jobs"][1]


def test_own_worker_image_is_named_with_what_it_must_hold(world: World) -> None:
    """An image can't be opened from here: it is said which Python and Beam it must hold; its registry is asked for."""
    world.set("dataflow", sdk_container_image=f"{REGION}-docker.pkg.dev/{PROJECT}/millrace/worker")
    found = findings(world.doctor())
    python = ".".join(map(str, sys.version_info[:2]))
    assert f"/millrace/worker, which must hold Python {python} and apache-beam" in found["Dataflow options"][1]
    assert "artifactregistry" in found["APIs"][1]


# ---------------------------------------------------------------------------------------------------- on this machine


@pytest.fixture
def alone(world: World) -> World:
    """All on one machine, as luigi.cfg comes."""
    world.config.read(running.ROOT / "luigi.cfg", encoding="utf-8")
    for section in ("gcp", "dataflow"):
        world.config.remove_section(section)
    world.set("millrace", warehouse="")
    return world


def test_local_settings_ask_nothing_of_the_cloud(alone: World) -> None:
    """With a folder as storage, the cloud is not needed, and nobody asks it; the exit code is 0."""
    ran = alone.doctor()
    assert ran.code == 0, ran
    assert "not needed: storage is a folder" in ran.out
    assert set(findings(ran)) == {"settings", "versions", "pipelines", "storage folder"}
    assert alone.cloud.requests + alone.projects.requests == []


def occupy(world: World) -> None:
    world.set("millrace", storage="/proc/millrace")


def break_import(world: World) -> None:
    folder = world.project / "broken"
    folder.mkdir()
    (folder / "msgspec.py").write_text("raise ImportError('it is broken')\n")
    world.env["PYTHONPATH"] = f"{folder}:{world.packages}:{world.project}"


def older_range(world: World) -> None:
    folder = world.project / "other" / "millrace-9.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: millrace\nVersion: 9\nRequires-Python: >=3.11\nProvides-Extra: workflows\n"
        'Requires-Dist: luigi<3; extra == "workflows"\nRequires-Dist: no-such-package\n'
    )
    world.env["PYTHONPATH"] = f"{folder.parent}:{world.project}"


def older_python(world: World) -> None:
    older_range(world)
    metadata = world.project / "other" / "millrace-9.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace(">=3.11", "<3"))


@pytest.mark.parametrize(
    ("change", "check", "said", "mend"),
    [
        (configure("millrace", storag="x"), "settings", "did you mean storage?", ""),
        (configure("posts", days="0"), "settings", "posts.days = '0'", ""),
        (
            older_range,
            "versions",
            "<3 is needed; no-such-package is missing",
            "/project/.venv/bin/python -m pip install -c constraints.txt -e '.[workflows]'",
        ),
        (older_python, "versions", "<3 is needed", "make clean && make .venv/workflows PYTHON=python3.12"),
        (break_import, "pipelines", "can't be imported: ImportError: it is broken", "-c 'import pipelines.posts."),
        (occupy, "storage folder", "nothing can be written in /proc", "sudo mkdir -p /proc/millrace && sudo chown"),
        (
            configure("core", scheduler_host="localhost", scheduler_port="9"),
            "luigid",
            "http://localhost:9/ does not answer",
            "/project/bin/luigid >/dev/null 2>&1 &",
        ),
    ],
)
def test_what_is_wrong_on_this_machine(
    alone: World, change: Callable[[World], None], check: str, said: str, mend: str
) -> None:
    """Settings, versions, imports, the folder, luigid: what is wrong, and what mends it; the exit code is 1."""
    change(alone)
    ran = alone.doctor()
    assert ran.code == 1, ran
    state, text = findings(ran)[check]
    assert state == "wrong", ran
    assert said in text, ran
    assert mend in text, ran
    assert "Traceback" not in ran.err, ran


def test_luigid_that_answers(alone: World) -> None:
    """A server that is named and answers is well."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        alone.set("core", scheduler_host="localhost", scheduler_port=str(server.server_port))
        ran = alone.doctor()
        server.shutdown()
    assert findings(ran)["luigid"] == ("ok", f"http://localhost:{server.server_port}/")


# ------------------------------------------------------------------------------------------------------- its own rules


def test_what_depends_on_something_wrong_is_not_asked() -> None:
    """It says what it waits for, through any number of checks; what the settings don't need is left out."""
    checks = [
        Check("a", lambda: wrong("broken")),
        Check("b", lambda: ok("never asked"), after=("a",)),
        Check("c", lambda: ok("never asked"), after=("b",)),
        Check("d", lambda: ok("never asked"), applies=lambda: False),
        Check("e", lambda: ok("fine")),
    ]
    found: Mapping[str, tuple[str, str]] = {c.name: (f.state, f.said) for c, f in examine(checks)}
    assert found == {"a": (WRONG, "broken"), "b": (NOT_ASKED, "a"), "c": (NOT_ASKED, "a"), "e": ("ok", "fine")}


def test_what_waits_for_one_thing_is_one_line(world: World) -> None:
    """Without credentials all the rest waits for them, however long the chain, and that is said once."""
    world.env["GOOGLE_APPLICATION_CREDENTIALS"] = ""
    waiting = [line for line in world.doctor().out.splitlines() if line.startswith("  not asked")]
    assert len(waiting) == 1
    assert re.fullmatch(r"  not asked  before credentials +project, APIs, bucket, .*", waiting[0])


@pytest.mark.parametrize(
    ("place", "location", "within"),
    [
        ("us-central1", "us-central1", True),
        ("us-central1", "us", True),
        ("us", "us-central1", False),
        ("us", "us", True),
        ("europe-west1", "eu", True),
        ("europe-west2", "eu", False),  # London
        ("europe-west6", "eu", False),  # Zurich
        ("europe-west1", "us", False),
        ("asia-east1", "asia", True),
        ("us-east1", "us-east4", False),
    ],
)
def test_places(place: str, location: str, within: bool) -> None:
    """A region is within itself and its multi-region; London and Zurich are not in EU; the reverse does not hold."""
    assert places.lies_in(place, location) is within
