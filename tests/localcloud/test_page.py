"""The page of the local cloud, in a browser: what is stored, and jobs with graph, state, log and counters."""

from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import bigquery, storage
from luigid_asking import status
from selenium import webdriver
from selenium.webdriver.common.by import By

from localcloud import BUCKET, DATASET, PROJECT, REGION, LocalCloud
from localcloud.page_graph import outermost

#: What a page must show as text, and never run.
_EVIL = "<script>document.title='evil'</script>"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud with a job that is done, a table and objects."""

    def counted_word(word: str) -> str:
        from apache_beam.metrics.metric import Metrics

        Metrics.counter("tests", "seen <b>").inc()
        return word

    with pytest.MonkeyPatch.context() as patch, LocalCloud(emulators=[]) as made:
        for name, value in made.environment().items():
            patch.setenv(name, value)
        with storage.Client() as client:
            client.bucket(BUCKET).blob("a b/ü&?#%/page").upload_from_string(_EVIL)
            client.bucket(BUCKET).blob("a b/bytes").upload_from_string(b"\x00\xff" * 700)
        with bigquery.Client() as tables:
            tables.query_and_wait(f'CREATE TABLE {DATASET}.t AS SELECT 7 AS number, "{_EVIL}" AS text')
        place = [
            f"--project={PROJECT}",
            f"--region={REGION}",
            f"--temp_location=gs://{BUCKET}/temp",
            "--job_name=words",
        ]
        flags = ["--runner=DataflowRunner", f"--dataflow_endpoint={made.dataflow.url}"]
        with beam.Pipeline(options=PipelineOptions([*flags, *place])) as pipeline:
            words = pipeline | "Words" >> beam.Create(["king", "lear"])
            counted = words | "Count" >> beam.Map(counted_word)
            (words, counted) | beam.Flatten() | "Write" >> beam.io.WriteToText(f"gs://{BUCKET}/out/words")
        yield made


def looks(page: webdriver.Chrome) -> str:
    """The text of the page, which neither is wider than the window nor ran what it shows."""
    assert "evil" not in page.title.replace(_EVIL, "")
    wide = page.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.current_url} is wider than the window"
    return page.find_element(By.TAG_NAME, "main").text


@pytest.mark.parametrize("width", [1280, 390])
def test_what_there_is_is_shown(cloud: LocalCloud, chromium: webdriver.Chrome, width: int, tmp_path: Path) -> None:
    """From the first page on by its links, on a desktop and on a phone."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.get(f"{cloud.page}/")
    for part in ("words", "done", BUCKET, f"{PROJECT}.{DATASET}.t"):
        assert part in looks(chromium)
    chromium.find_element(By.LINK_TEXT, "words").click()
    text = looks(chromium)
    chromium.save_screenshot(str(tmp_path / f"job-{width}.png"))
    for part in ("batch", "seen <b>", "Worker pool stopped.", REGION):
        assert part in text
    boxes = [each.text for each in chromium.find_elements(By.CSS_SELECTOR, "svg text")]
    assert {"Words", "Count", "Flatten", "Write"} <= set(boxes)
    chromium.find_element(By.LINK_TEXT, "Local cloud").click()
    chromium.find_element(By.LINK_TEXT, f"{PROJECT}.{DATASET}.t").click()
    assert _EVIL in looks(chromium)
    chromium.find_element(By.LINK_TEXT, "Local cloud").click()
    for link in (BUCKET, "a b/", "ü&?#%/", "page"):
        chromium.find_element(By.LINK_TEXT, link).click()
        looks(chromium)
    assert chromium.find_element(By.TAG_NAME, "pre").text == _EVIL
    chromium.find_element(By.LINK_TEXT, "a b").click()
    chromium.find_element(By.LINK_TEXT, "bytes").click()
    assert "1.4 kB that are no text." in looks(chromium)


def test_what_is_not_there_is_said(cloud: LocalCloud) -> None:
    """With 404, and nothing but a page of the cloud's own asks for it."""
    port = int(cloud.page.rpartition(":")[2])
    for path in ("/nosuch", "/job?id=x", "/table?name=a.b.c", "/bucket?name=x", f"/object?bucket={BUCKET}&name=x"):
        assert status(port, path, Host=f"localhost:{port}") == 404, path
    assert status(port, "/", Host="evil.example") == 403
    assert status(port, "/", Host=f"localhost:{port}", Origin="http://evil.example") == 403


def test_a_graph_has_the_outermost_transforms() -> None:
    """Their parts are one box, whatever slashes stand in brackets of a name."""
    graph = [
        {"name": "Read(a/b)/Impulse", "inputs": [], "outputs": ["1"]},
        {"name": "Read(a/b)/Map", "inputs": ["1"], "outputs": ["2"]},
        {"name": "Count", "inputs": ["2"], "outputs": ["3"]},
        {"name": "Both", "inputs": ["2", "3"], "outputs": []},
    ]
    assert outermost(graph) == {"Read(a/b)": [], "Count": ["Read(a/b)"], "Both": ["Read(a/b)", "Count"]}
