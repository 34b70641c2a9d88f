"""What comes before luigi is imported, which reads its settings then: whether they can be read, proxies, a home.

As a program, this file says what is wrong with the settings' files, for commands that start luigi itself.
"""

import codecs
import configparser
import os
import sys
import tempfile
from pathlib import Path

#: What begins a file of another encoding than UTF-8, longest first.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF8: "UTF-8 with a byte order mark",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def files() -> list[str]:
    """Return the files that luigi reads its settings from, as luigi.configuration has them."""
    named = os.environ.get("LUIGI_CONFIG_PATH")
    paths = ["/etc/luigi/client.cfg", "/etc/luigi/luigi.cfg", "client.cfg", "luigi.cfg", *([named] if named else [])]
    return [path for path in paths if os.path.isfile(path)]


def unreadable() -> str:
    """Return what is wrong with the first of those files that can't be read, in a sentence, or nothing."""
    if os.environ.get("LUIGI_CONFIG_PARSER", "cfg") == "toml":
        return ""
    for path in files():
        try:
            data = Path(path).read_bytes()
        except OSError as error:  # luigi would go on without the file
            return f"{path} can't be read: {error.strerror}"
        if mark := next((mark for mark in _MARKS if data.startswith(mark)), None):
            return f"{path} can't be read: it is {_MARKS[mark]}; save it as plain UTF-8"
        try:
            configparser.RawConfigParser().read_string(data.decode("utf-8"), path)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            return f"{path} can't be read: line {line} is not UTF-8; save it as UTF-8"
        except configparser.Error as error:
            return f"{path} can't be read: {' '.join(str(error).split())}"
    return ""


def settle() -> None:
    """Raise SystemExit if settings can't be read; keep this machine from being asked by a proxy; give the process a
    home.
    """
    if trouble := unreadable():
        print(f"error: {trouble}", file=sys.stderr)
        sys.exit(40 if sys.argv[1:2] == ["run"] else 1)  # luigi's own code for a wrong setting, where cron asks
    excepted = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
    more = [name for name in _LOOPBACK if name not in excepted]
    os.environ["no_proxy"] = ",".join([*filter(None, excepted), *more])  # a proxy's localhost is another one
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor an entry in /etc/passwd, as in a container with a user of its own
        os.environ["HOME"] = tempfile.gettempdir()


if __name__ == "__main__":
    settle()
