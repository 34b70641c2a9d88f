"""What is behind bin/local-cloud: a command that runs in the local cloud, or the cloud for whoever wants to try it."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import running

from localcloud import BUCKET, DATASET, PROJECT

CLOUD = [running.python(), "-m", "localcloud"]


def in_cloud(folder: Path, *command: object) -> running.Ran:
    """Runs a command in a local cloud to its end, in a folder, with the project's luigi.cfg in it."""
    config = folder / "luigi.cfg"
    config.write_text((running.ROOT / "luigi.cfg").read_text(encoding="utf-8"), encoding="utf-8")
    env = {key: value for key, value in running.environment().items() if key != "LUIGI_CONFIG_PATH"}
    return running.run([*CLOUD, "--", *command], folder, env)


def fetch(*flags: object) -> Sequence[str]:
    return ["luigi", *running.command("Fetch", "--source", "sample://", "--date", running.DAY, *flags)[1:]]


def test_a_command_runs_in_it(tmp_path: Path) -> None:
    """luigi's Fetch is a job there, since the cloud's settings come over those of luigi.cfg; nothing stays here."""
    script = f"""{" ".join(fetch())} || exit
{running.python()} - <<'END'
from millrace.tasks import session
here = session.current()
place = {{"project_id": "{PROJECT}", "location": "us-central1"}}
for job in here.google.dataflow.jobs.list_jobs(request=place):
    print("job", job.name, job.current_state.name)
print("lies in", here.storage.uri(""), [path for path in here.storage.list("raw", "_MANIFEST.json")])
print("tables in", here.warehouse.uri)
END
"""
    ran = in_cloud(tmp_path, "sh", "-c", script)
    assert ran.code == 0, ran
    assert re.search(rf"^job millrace-fetch-{running.DAY}-[0-9a-f]+ JOB_STATE_DONE$", ran.out, re.MULTILINE), ran
    assert re.search(
        rf"^lies in gs://{BUCKET}/data/ \['raw/.*date={running.DAY}/_MANIFEST.json'\]$", ran.out, re.MULTILINE
    )
    assert f"tables in bigquery://{PROJECT}/{DATASET}" in ran.out
    assert [path.name for path in tmp_path.iterdir()] == ["luigi.cfg"]


def test_the_command_s_exit_code_is_its_own(tmp_path: Path) -> None:
    """What luigi says of a wrong flag, and its exit code, arrive."""
    ran = in_cloud(tmp_path, *fetch("--gcp-patience", "0"))
    assert ran.code not in (0, None), ran
    assert "allowed is a number from 1 to 3600" in str(ran)
    assert in_cloud(tmp_path, "sh", "-c", "exit 7").code == 7


def test_without_a_command_it_waits_and_says_how_to_use_it(tmp_path: Path) -> None:
    """What it prints, given to a shell, has luigi work there; after Ctrl-C it ends with 0."""
    with subprocess.Popen(CLOUD, cwd=tmp_path, env=running.environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            lines: list[str] = []
            while not lines or not lines[-1].startswith("# Ctrl-C"):
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            said = "".join(lines)
            for part in (f"storage = gs://{BUCKET}/data", f"warehouse = bigquery://{PROJECT}/{DATASET}"):
                assert part in said
            exports = "".join(line for line in lines if line.startswith("export "))
            env = {**os.environ, "PYTHONPATH": running.environment()["PYTHONPATH"]}
            env["PATH"] = os.pathsep.join([str(Path(running.python()).parent), env["PATH"]])
            ran = running.run(["sh", "-c", exports + " ".join(fetch())], tmp_path, env)
            assert ran.code == 0, ran
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_sigterm_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    """Alone or with a command, which is told of it: no folder and no process is left over."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    env = {**running.environment(), "TMPDIR": str(folder)}
    script = f"trap 'echo told; exit 3' TERM; touch {tmp_path}/up; while :; do read -r _ <>{tmp_path}/never; done"
    os.mkfifo(tmp_path / "never")
    for command, code in (([], 143), (["--", "bash", "-c", script], 3)):
        with subprocess.Popen([*CLOUD, *command], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                if command:
                    running.wait_for((tmp_path / "up").exists, 30)
                else:
                    while not process.stdout.readline().startswith("# Ctrl-C"):
                        assert process.poll() is None
                process.terminate()
                assert process.wait(30) == code
                assert process.stdout.read() == ("told\n" if command else "")
            finally:
                process.kill()
        assert list(folder.iterdir()) == []


def test_a_command_has_its_time_after_ctrl_c(tmp_path: Path) -> None:
    """A terminal tells the whole group; the cloud stays until the command has put its things in order."""
    script = (
        f"trap 'sleep 1; echo done; exit 130' INT; touch {tmp_path}/up; while :; do read -r _ <>{tmp_path}/never; done"
    )
    os.mkfifo(tmp_path / "never")
    command = [*CLOUD, "--", "bash", "-c", script]
    both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        command, env=running.environment(), stdout=both[0], stderr=both[1], text=True, start_new_session=True
    ) as process:
        try:
            running.wait_for((tmp_path / "up").exists, 30)
            os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=30)
            assert (process.returncode, said) == (130, "done\n")
        finally:
            process.kill()


def test_a_command_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """As a shell has it, with a shell's exit code."""
    ran = in_cloud(tmp_path, "nosuch")
    assert (ran.code, ran.out, ran.err) == (127, "", "error: nosuch can't be run: No such file or directory\n")


def test_what_it_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    """A luigi.cfg that is none, a folder of nobody, and an empty one, as of a variable that is not set."""
    config = tmp_path / "own.cfg"
    config.write_text("not a setting\n", encoding="utf-8")
    env = {**running.environment(), "LUIGI_CONFIG_PATH": str(config)}
    for options, said in (
        (["--no-emulators"], f"{config}, which LUIGI_CONFIG_PATH names, can't be read"),
        (["--keep", "~nobody-of-that-name/kept"], "--keep: ~nobody-of-that-name/kept is in the home of a user"),
        (["--keep", ""], "--keep: the folder's name is empty"),
    ):
        ran = running.run([*CLOUD, *options, "--", "true"], tmp_path, env)
        assert ran.code == 1, ran
        assert f"error: {said}" in ran.err, ran
        assert "Traceback" not in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["own.cfg"]


def test_settings_of_ones_own_hold_there_too(tmp_path: Path) -> None:
    """What LUIGI_CONFIG_PATH names is not lost; the cloud's settings come over it."""
    (tmp_path / "own.cfg").write_text("[posts]\ndays = 3\n[millrace]\nstorage = elsewhere\n", encoding="utf-8")
    env = {**running.environment(), "LUIGI_CONFIG_PATH": str(tmp_path / "own.cfg")}
    ran = running.run([*CLOUD, "--", "sh", "-c", 'cat "$LUIGI_CONFIG_PATH"'], tmp_path, env)
    assert "days = 3" in ran.out
    assert "elsewhere" not in ran.out
    assert f"storage = gs://{BUCKET}/data" in ran.out
