#!/usr/bin/env bash
# Installs Millrace for every Python that it promises, and at the lowest versions that it promises, each into an environment
# of its own; makes a report there, in an empty folder, and runs the tests of what libraries decide. A Python that this machine does
# not have is skipped by name.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD uv=$PWD/.venv/bin/uv
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The interpreter of a version, be it on the path or pyenv's, that really runs.
interpreter() {
    for each in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if "$each" -c 'import sys; print(sys.executable)' 2>/dev/null; then return; fi
    done
}

# A report of two days by what is installed in an environment; it must say what the first one said.
report() {
    mkdir "$folder/run-$1"
    cp -r "$root/workflows" "$root/pipelines" "$folder/run-$1" # which no wheel holds
    (cd "$folder/run-$1" && LUIGI_CONFIG_PATH="$root/luigi.cfg" "$folder/$1/bin/python" -m luigi --module workflows Report \
        --date 2026-11-01 --days 1 >log 2>&1) || { cat "$folder/run-$1/log"; exit 1; }
    "$folder/$1/bin/python" - "$folder/run-$1" <<'END' >"$folder/said-$1"
import json, pathlib, sys
(found,) = pathlib.Path(sys.argv[1]).rglob("report.json")
print(json.dumps({key: each for key, each in json.loads(found.read_text()).items() if key not in ("made_at", "stages")}, indent=1))
END
    [ -e "$folder/said" ] || cp "$folder/said-$1" "$folder/said"
    diff "$folder/said" "$folder/said-$1" || { echo "$1 makes another report"; exit 1; }
}

# What a library decides: parsing, words, links, SQL, scores. How processes behave is tested in `make test`.
check() {
    "$folder/$1/bin/python" -m pytest -q -p no:cacheprovider tests/bigquery_sql tests/pipelines/posts/test_case_files.py \
        tests/pipelines/posts/test_parse.py tests/pipelines/posts/test_rules.py tests/core/test_text.py \
        tests/pipelines/digits/test_scoring.py tests/pipelines/words
}

environment() { # NAME INTERPRETER, and what uv is told besides
    "$uv" venv -q --python "$2" "$folder/$1"
    "$uv" pip install -q --python "$folder/$1/bin/python" "${@:3}"
    rm -rf build  # or else the next build would take what lies there
}

for version in 3.11 3.12 3.13; do
    python=$(interpreter "$version")
    if [ -z "$python" ]; then
        echo "Python $version: skipped, this machine has none"
        continue
    fi
    echo "Python $version"
    environment "$version" "$python" -c constraints.txt '.[workflows,test]'
    report "$version"
    [ "$version" = 3.11 ] || check "$version"
done

echo "The lowest versions"
environment lowest "$(interpreter 3.11)" --resolution lowest-direct '.[workflows,test]'
report lowest
check lowest
