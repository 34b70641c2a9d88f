"""Beam's own examples, submitted by Beam's own DataflowRunner.

Each is started as its documentation says, `python -m apache_beam.examples.…`, in the environment of `localcloud`.
What has to come out is Beam's own checksum, what Beam's own tests expect, or computed here in plain Python.
"""

import ast
import collections
import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import apache_beam.examples
import pytest
import running
from client_running import Given, on_dataflow, python

from localcloud import DATASET, PROJECT

KING_LEAR = running.ROOT.parent / "shared" / "data" / "text" / "kinglear.txt"
#: Of wordcount over King Lear, as apache_beam.examples.wordcount_it_test has it: SHA-1 of the sorted lines.
CHECKSUM = "33535a832b7db6d78389759577d4ff495980b9c0"
GAMES = """\
user1_A,A,10,1447686663000,2015-11-16 15:11:03.000
user2_B,B,7,1447686663500,2015-11-16 15:11:03.500
user1_A,A,5,1447690263000,2015-11-16 16:11:03.000
this is no event
user3_A,A,1,1447690264000,2015-11-16 16:11:04.000
"""
WEATHER = [
    {"year": 2001, "month": 7, "day": day, "mean_temp": temp, "tornado": tornado}
    for day, temp, tornado in ((1, 50.0, True), (2, 90.0, False), (3, 40.0, True))
] + [{"year": 2001, "month": 8, "day": 1, "mean_temp": 80.0, "tornado": True}]


def example(given: Given, module: str, *flags: str) -> running.Ran:
    """Run an example to its end, whose last job has to be done; return what it said."""
    ran = python(given)("-m", f"apache_beam.examples.{module}", *flags, *on_dataflow(given))
    assert ran.code == 0, str(ran)
    assert given.jobs()[given.name] == "JOB_STATE_DONE", str(ran)
    return ran


@pytest.fixture
def lear(given: Given) -> str:
    """King Lear, where the examples look for it unless they are told otherwise."""
    if not KING_LEAR.exists():
        running.absent(f"{KING_LEAR} is not there")
    text = KING_LEAR.read_bytes()
    given.put("shakespeare/kinglear.txt", text, bucket="dataflow-samples")
    return text.decode()


def counted(words: Iterable[str], form: str = "{}: {}") -> list[str]:
    """What a count of words is, in lines."""
    return sorted(form.format(*item) for item in collections.Counter(words).items())


def found(pattern: str, text: str) -> list[str]:
    return [word for line in text.splitlines() for word in re.findall(pattern, line)]


def test_wordcount(given: Given, lear: str) -> None:
    """`wordcount`: its default input, and Beam's checksum of King Lear."""
    example(given, "wordcount", f"--output={given.gs('counts')}")
    lines = given.lines("counts")
    assert len(lines) == len(set(found(r"[\w\']+", lear)))
    digest = hashlib.sha1()
    for line in sorted(f"{line}\n" for line in lines):
        digest.update(line.encode())
    assert digest.hexdigest() == CHECKSUM


def test_wordcount_minimal(given: Given, lear: str) -> None:
    """`wordcount_minimal`: the main session is pickled, and comes back in the workers."""
    example(given, "wordcount_minimal", f"--output={given.gs('counts')}")
    assert given.lines("counts") == counted(found(r"[A-Za-z\']+", lear))


def test_wordcount_debugging(given: Given, lear: str) -> None:
    """`wordcount_debugging`: `assert_that` within the job, counters, and its log."""
    example(given, "wordcount_debugging", f"--output={given.gs('counts')}")
    assert given.lines("counts") == ["Flourish: 3", "stomach: 1"]


def test_wordcount_with_metrics(given: Given, lear: str) -> None:
    """`wordcount_with_metrics`: counters and a distribution, asked for after the job."""
    said = str(example(given, "wordcount_with_metrics", f"--output={given.gs('counts')}"))
    words = found(r"[\w\']+", lear)
    assert given.lines("counts") == counted(words)
    assert f"number of empty lines: {sum(not line.strip() for line in lear.splitlines())}" in said
    assert f"average word length: {int(sum(map(len, words)) / len(words))}" in said


def test_wordcount_of_data_frames(given: Given, lear: str) -> None:
    """`dataframe.wordcount`: Beam's data frames, and a file of CSV."""
    pytest.importorskip("pandas")
    example(given, "dataframe.wordcount", f"--output={given.gs('counts.csv')}")
    lines = [line for line in given.lines("counts.csv") if line != "word,count"]
    assert lines == counted(found(r"[\w]+", lear), "{},{}")


def test_multiple_output_pardo(given: Given, lear: str) -> None:
    """`cookbook.multiple_output_pardo`: branches of one ParDo, each with an output of its own."""
    example(given, "cookbook.multiple_output_pardo", f"--output={given.gs('counts')}")
    words = found(r"[A-Za-z\']+", lear)
    assert given.lines("counts-words") == counted(word for word in words if len(word) > 3)
    assert given.lines("counts-short-words") == counted(word for word in words if len(word) <= 3)
    assert sum(map(int, given.lines("counts-chars"))) == sum(map(len, lear.splitlines()))


def test_mergecontacts(given: Given) -> None:
    """`cookbook.mergecontacts`: CoGroupByKey of three files."""
    files = {
        "email": "Ann A\tann@example.com\nBob B\tbob@example.com\n",
        "phone": "Ann A\t1-2\nLud L\t3-4\n",
        "snailmail": "Ann A\t1 Street\nLud L\t2 Street\n",
    }
    flags = [f"--input_{name}={given.put(name + '.txt', text)}" for name, text in files.items()]
    outputs = f"--output_tsv={given.gs('tsv')}", "--output_stats=unused"
    example(given, "cookbook.mergecontacts", *flags, *outputs)
    assert given.lines("tsv") == [
        '"Ann A"\t"ann@example.com"\t"1-2"\t"1 Street"',
        '"Bob B"\t"bob@example.com"\t""\t""',
        '"Lud L"\t""\t"3-4"\t"2 Street"',
    ]


def test_group_with_coder(given: Given) -> None:
    """`cookbook.group_with_coder`: keys of a class of the main session, with a coder of its own."""
    path = given.put("points.txt", "joe,10\nmary,7\njoe,20\n")
    example(given, "cookbook.group_with_coder", f"--input={path}", f"--output={given.gs('sums')}")
    assert given.lines("sums") == ["joe,30", "mary,7"]


def test_coders(given: Given) -> None:
    """`cookbook.coders`: text read and written by a coder of the main session."""
    games = [{"host": ["Germany", 1], "guest": ["Italy", 0]}, {"host": ["Germany", 1], "guest": ["Brasil", 3]}]
    path = given.put("games.txt", "".join(json.dumps(game) + "\n" for game in games))
    example(given, "cookbook.coders", f"--input={path}", f"--output={given.gs('points')}")
    assert given.lines("points") == ['["Brasil", 3]', '["Germany", 3]', '["Italy", 0]']


def test_custom_ptransform(given: Given) -> None:
    """`cookbook.custom_ptransform`: three jobs of one name, one after the other."""
    path = given.put("words.txt", "CAT\nDOG\nCAT\nCAT\nDOG\n")
    example(given, "cookbook.custom_ptransform", f"--input={path}", f"--output={given.gs('counts')}")
    assert given.lines("counts") == ["('CAT', 6)", "('DOG', 4)"]


def test_user_score(given: Given) -> None:
    """`complete.game.user_score`: what is not an event is counted and left out."""
    path = given.put("games.csv", GAMES)
    example(given, "complete.game.user_score", f"--input={path}", f"--output={given.gs('scores')}")
    assert given.lines("scores") == [
        "user: user1_A, total_score: 15",
        "user: user2_B, total_score: 7",
        "user: user3_A, total_score: 1",
    ]


def test_tfidf(given: Given) -> None:
    """`complete.tfidf`: files that the launcher lists, and side inputs."""
    texts = {"1.txt": "abc def ghi", "2.txt": "abc def", "3.txt": "abc"}
    for name, text in texts.items():
        given.put(f"texts/{name}", text)
    example(given, "complete.tfidf", f"--uris={given.gs('texts/*.txt')}", f"--output={given.gs('tfidf')}")
    rows = {(word, uri): value for word, (uri, value) in map(ast.literal_eval, given.lines("tfidf"))}
    expected = {
        (word, given.gs(f"texts/{name}")): math.log(3 / sum(word in other for other in texts.values()))
        * text.split().count(word)
        / len(text.split())
        for name, text in texts.items()
        for word in text.split()
    }
    assert rows == pytest.approx(expected)


def test_top_wikipedia_sessions(given: Given) -> None:
    """`complete.top_wikipedia_sessions`: session windows, the tops of each month."""
    edits = [("user1", 0), ("user1", 1), ("user2", 0), ("user2", 3599), ("user2", 7300), ("user3", 3024)]
    lines = "".join(json.dumps({"timestamp": time, "contributor_username": user}) + "\n" for user, time in edits)
    path = given.put("edits.json", lines)
    flags = f"--input={path}", f"--output={given.gs('tops')}", "--sampling_threshold=1.0"
    example(given, "complete.top_wikipedia_sessions", *flags)
    assert given.lines("tops") == [
        "user1 : [0.0, 3601.0) : 2 : [0.0, 2592000.0)",
        "user2 : [0.0, 7199.0) : 2 : [0.0, 2592000.0)",
        "user2 : [7300.0, 10900.0) : 1 : [0.0, 2592000.0)",
        "user3 : [3024.0, 6624.0) : 1 : [0.0, 2592000.0)",
    ]


def test_autocomplete(given: Given) -> None:
    """`complete.autocomplete`: the tops of each prefix."""
    path = given.put("words.txt", "this this that to to to\n")
    example(given, "complete.autocomplete", f"--input={path}", f"--output={given.gs('prefixes')}")
    lines = given.lines("prefixes")
    assert len(lines) == 7
    assert "to: [(3, 'to')]" in lines
    assert "t: [(3, 'to'), (2, 'this'), (1, 'that')]" in lines


def test_estimate_pi(given: Given) -> None:
    """`complete.estimate_pi`: ten million random points, and JSON from a coder of its own."""
    example(given, "complete.estimate_pi", f"--output={given.gs('pi')}", "--tries=1")
    (line,) = given.lines("pi")
    assert json.loads(line)[2] == pytest.approx(math.pi, abs=0.01)


def test_matrix_power(given: Given) -> None:
    """`matrix_power`: side inputs that are themselves computed, thrice."""
    inputs = {"matrix": "0: 1 2\n1: 3 4\n", "vector": "1 1\n"}
    flags = [f"--input_{name}={given.put(name, text)}" for name, text in inputs.items()]
    python(given).succeed(
        "-m", "apache_beam.examples.matrix_power", *flags, f"--output={given.gs('power')}", "--exponent=3",
        *on_dataflow(given)
    )  # fmt: skip
    running.wait_for(lambda: given.jobs().get(given.name) == "JOB_STATE_DONE", 60)
    assert given.lines("power") == ["(0, 91.0)", "(1, 199.0)"]


def test_avro_nyc_trips(given: Given) -> None:
    """`avro_nyc_trips`: Avro read and written."""
    fastavro = pytest.importorskip("fastavro")
    times = "request_datetime on_scene_datetime pickup_datetime dropoff_datetime".split()
    numbers = "trip_miles trip_time base_passenger_fare tips driver_pay".split()
    more = "tolls bcf sales_tax congestion_surcharge airport_fee".split()
    trip = {
        "hvfhs_license_num": "HV0003",
        **dict.fromkeys(times, 1_675_245_600_000),  # a Wednesday
        **dict(zip(numbers, (10.0, 600.0, 25.0, 5.0, 15.0), strict=True)),
        **dict.fromkeys(more, 0.0),
    }
    types = {"hvfhs_license_num": "string", **dict.fromkeys(times, "long"), **dict.fromkeys(numbers + more, "double")}
    schema = {
        "type": "record",
        "name": "trip",
        "fields": [{"name": name, "type": ["null", kind]} for name, kind in types.items()],
    }
    written = io.BytesIO()
    fastavro.writer(written, schema, [trip, {**trip, "tips": None}])
    path = given.put("trips.avro", written.getvalue())
    example(given, "avro_nyc_trips", f"--input={path}", f"--output={given.gs('prices')}")
    rows = [row for data in given.read("prices").values() for row in fastavro.reader(io.BytesIO(data))]
    assert len(rows) == 1
    assert rows[0]["price_per_mile"] == 3.0
    assert rows[0]["driver_pay_per_minute"] == 2.0


def test_juliaset(given: Given) -> None:
    """`complete.juliaset`: a package of its own, by `--setup_file`."""
    source = Path(apache_beam.examples.__file__).parent / "complete" / "juliaset"
    shutil.copytree(source, given.folder / "juliaset")
    flags = f"--coordinate_output={given.gs('points')}", "--grid_size=8"
    folder = given.folder / "juliaset"
    example(given, "complete.juliaset.juliaset_main", *flags, f"--setup_file={folder / 'setup.py'}")
    points = {
        (x, y): colour
        for line in given.lines("points")
        for x, y, colour in ast.literal_eval(f"[{line.replace(') (', '), (')}]")
    }
    assert points == {(x, y): _julia(x, y, 8) for x in range(8) for y in range(8)}


def _julia(x: int, y: int, n: int) -> int:
    """The last step, of 100, before a point has left the circle."""
    z = complex(2.0 * x / n - 1.0, 2.0 * y / n - 1.0)
    for step in range(100):
        if z.real * z.real + z.imag * z.imag > 2.0:
            return step
        z = z * z + complex(-0.62772, 0.42193)
    return 99


def loaded(given: Given, name: str) -> str:
    """Fill a table with the weather; return its name, as Beam has it."""
    table = f"{PROJECT}.{DATASET}.{given.table(name)}"
    given.bigquery.load_table_from_json(WEATHER, table).result()
    return f"{PROJECT}:{DATASET}.{given.table(name)}"


Output = Callable[[str], str]


@pytest.fixture
def output(given: Given) -> Output:
    """Names a table for results, as Beam has it."""
    return lambda name: f"{PROJECT}:{DATASET}.{given.table(name)}"


def test_bigquery_tornadoes(given: Given, output: Output) -> None:
    """`cookbook.bigquery_tornadoes`: BigQuery read by an export and written by a load."""
    example(given, "cookbook.bigquery_tornadoes", f"--input={loaded(given, 'in')}", f"--output={output('out')}")
    rows = given.rows(f"SELECT * FROM {DATASET}.{given.table('out')} ORDER BY month")
    assert rows == [{"month": 7, "tornado_count": 2}, {"month": 8, "tornado_count": 1}]


def test_bigquery_schema(given: Given, output: Output) -> None:
    """`cookbook.bigquery_schema`: nested and repeated columns written."""
    example(given, "cookbook.bigquery_schema", f"--output={output('people')}")
    rows = given.rows(f"SELECT * FROM {DATASET}.{given.table('people')} ORDER BY kind")
    assert len(rows) == 5
    assert rows[1] == {
        "kind": "kind2",
        "fullName": "fullName2",
        "age": 20,
        "gender": "male",
        "phoneNumber": {"areaCode": 200, "number": 200000},
        "children": ["child21", "child22", "child23"],
    }


def test_filters(given: Given, output: Output) -> None:
    """`cookbook.filters`: a table read, a mean as side input, a table written."""
    example(given, "cookbook.filters", f"--input={loaded(given, 'in')}", f"--output={output('out')}")
    rows = given.rows(f"SELECT * FROM {DATASET}.{given.table('out')} ORDER BY day")
    cold = [{key: row[key] for key in ("year", "month", "day", "mean_temp")} for row in (WEATHER[0], WEATHER[2])]
    assert rows == cold


def test_hourly_team_score(given: Given) -> None:
    """`complete.game.hourly_team_score`: fixed windows, the main session, a table written."""
    path, table = given.put("games.csv", GAMES), given.table("scores")
    example(
        given, "complete.game.hourly_team_score", f"--input={path}", f"--dataset={DATASET}", f"--table_name={table}"
    )
    rows = given.rows(f"SELECT team, total_score FROM {DATASET}.{table} ORDER BY team, total_score")
    assert [tuple(row.values()) for row in rows] == [("A", 6), ("A", 10), ("B", 7)]


def test_bigquery_side_input(given: Given) -> None:
    """`cookbook.bigquery_side_input`: its legacy SQL is refused by name, after Beam has asked for some minutes."""
    flags = f"--output={given.gs('groups')}", "--num_groups=3"
    said = python(given).fail("-m", "apache_beam.examples.cookbook.bigquery_side_input", *flags, *on_dataflow(given))
    assert "the local BigQuery does not support legacy SQL" in said
    assert given.jobs()[given.name] == "JOB_STATE_FAILED"


def test_datastore_wordcount(given: Given) -> None:
    """`cookbook.datastore_wordcount`: written to Datastore by one job, read from it and counted by another."""
    # Few lines, because Beam begins with a write a second, as Datastore wants it of 500 workers.
    path = given.put("lines.txt", "one two\n\ntwo three\n")
    example(given, "cookbook.datastore_wordcount", f"--input={path}", "--kind=lines", f"--output={given.gs('counts')}")
    assert given.lines("counts") == ["one: 1", "three: 1", "two: 2"]
