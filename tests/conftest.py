"""Fixtures that tests of several folders share."""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# UTC+14, here and in every process that a test starts, so that no test, and nothing that it tests, can lean on the
# machine's own zone: there the day is another one than in UTC for most of the hours.
os.environ["TZ"] = "Pacific/Kiritimati"
time.tzset()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an undisturbed run over two days of the sample; not to be changed. One for all workers.

    Its name holds what means something elsewhere: in partitions, patterns, options, SQL, shells, configuration.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    odd = "date=2020-01-01/hour=5/source=x/{dataset}/50% #?[x]*/it's ü $HOME"
    storage, done = folder / "undisturbed" / odd / "data", folder / "undisturbed.done"
    with (folder / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            running.succeed("Report", "--date", running.DAY, "--days", 1, storage=storage)
            done.touch()
    return storage


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's root as make leaves it, its windows one day long: bin, the packages, luigi.cfg, and a .venv."""
    root = tmp_path / "project"
    shutil.copytree(running.ROOT / "bin", root / "bin")
    for name in ("bigquery_sql", "workflows", "pipelines"):
        (root / name).symlink_to(running.ROOT / name)
    (root / ".venv").symlink_to(sys.prefix)
    settings = (running.ROOT / "luigi.cfg").read_text(encoding="utf-8")
    assert "\ndays = 7\n" in settings
    (root / "luigi.cfg").write_text(settings.replace("\ndays = 7\n", "\ndays = 1\n"), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium; without it the test is skipped, with CI=true it fails."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        running.absent("Chromium and its chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()
