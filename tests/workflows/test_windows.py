"""Windows of another length than the settings say: beside the usual one, with tables and a page of their own."""

import datetime
import json
import re
import shutil
from pathlib import Path

import running
from running import DAY

FLAGS = ("--date", DAY, "--posts-days", 1)


def test_two_windows_end_on_one_day(undisturbed: Path, tmp_path: Path) -> None:
    """A window of two days is made beside that of one, which stays as it is: tables, page, and both are listed. What is
    forgotten of the one is nothing of the other.
    """
    storage = tmp_path / "data"
    shutil.copytree(undisturbed, storage)
    usual = {name: running.files(storage / name) for name in running.complete(storage)}
    running.succeed("Report", *FLAGS, "--days", 2, storage=storage)
    assert {name: running.files(storage / name) for name in usual} == usual
    further = {name for name in running.complete(storage) if "_2d/" in name}
    assert further == {f"{name}_2d/date={DAY}" for name in (*running.KEYS, "reports")}
    posts = {
        days: running.select(storage, f"SELECT SUM(posts) AS n, MIN(hour) AS first FROM posts_by_hour{suffix}")
        for days, suffix in ((1, ""), (2, "_2d"))
    }
    assert posts[2][0]["n"] > posts[1][0]["n"]
    assert posts[2][0]["first"] == datetime.datetime.combine(DAY, datetime.time()) - datetime.timedelta(days=1)
    report = json.loads((storage / f"reports_2d/date={DAY}/report.json").read_text())
    assert (report["days"], report["posts"]) == (2, posts[2][0]["n"])
    listed = (storage / "reports/index.html").read_text(encoding="utf-8")
    links = [f"../reports_2d/date={DAY}/index.html", f"date={DAY}/index.html"]
    assert re.findall(r'href="([^"]*date=[^"]*)"', listed) == links
    assert all((storage / "reports" / link).exists() for link in links)

    clear = [running.python(), "-m", "millrace", "clear", "Aggregate", "--days", 2, "--yes"]
    ran = running.run([*clear, "--millrace-storage", storage, "--posts-days", 1], tmp_path)
    assert ran.code == 0, ran
    assert not [name for name in running.complete(storage) if "_2d/" in name]
    assert {*usual} <= {*running.complete(storage)}
    listed = (storage / "reports/index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]*date=[^"]*)"', listed) == [f"date={DAY}/index.html"]
