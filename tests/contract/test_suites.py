"""The suites find what breaks a contract, in a project of somebody else, written as the docs say."""

import re
import sys
from pathlib import Path

import running

#: A storage that is right but for four things, each of which one test is about.
MY_STORAGE = """
from millrace.core.storage import LocalStorage

class MyStorage(LocalStorage):
    def create(self, path, data, note=None):
        self.replace(path, data)

    def list(self, prefix, name=""):
        return iter(sorted(super().list(prefix, name), reverse=True))

    def delete(self, prefix):
        super().delete(prefix)
        super().delete(f"{prefix}0")

    def check(self):
        self.create("probe", b"")
"""
#: Of the tests those that take no time.
QUICK = "not racing and not lost and not lock and not anything"


def test_a_storage_that_breaks_the_contract_fails_just_there(tmp_path: Path) -> None:
    """Each flaw fails the tests that are about it, and no other; the values that differ are shown."""
    docs = (running.ROOT / "docs/engine.md").read_text(encoding="utf-8")
    (suite,) = [code for code in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "class TestMyStorage" in code]
    (tmp_path / "test_my_storage.py").write_text(suite, encoding="utf-8")
    (tmp_path / "my_storage.py").write_text(MY_STORAGE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", QUICK]
    ran = running.run(command, tmp_path, {**running.environment(), "PYTHONPATH": f"{running.ROOT}:{tmp_path}"})
    assert set(re.findall(r"^FAILED \S+::(\w+)", ran.out, re.MULTILINE)) == {
        "test_create_does_not_write_over_a_file",
        "test_list_is_in_order",
        "test_list_of_a_name_looks_at_no_part_of_another",
        "test_sizes_and_checksums_are_those_of_all_files_below",
        "test_a_copy_may_be_made_again",
        "test_delete_takes_a_folder_by_its_whole_name",
        "test_the_check_leaves_nothing",
    }, ran
    assert "assert ['d/z', 'd/b/c', 'd/a'] == ['d/a', 'd/b/c', 'd/z']" in ran.out
