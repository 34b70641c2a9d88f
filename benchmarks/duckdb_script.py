"""The hand-written peer: one DuckDB script that makes the tables of Millrace's Aggregate from the same JSON lines.

No stages, no manifests, no partial counts: it reads the files once, keeps everything in one in-memory database and
writes one Parquet file a table. It is meant to be hard to beat:

- a text is split at its spaces and the rules see each distinct token once, not each occurrence;
- words become integer ids in the words' order, so the smaller id of a pair is its smaller word;
- a post's ids become one sorted list, and unnesting the list's tails makes each pair once, with no self join;
- a pair is one integer, 32 bits of it where the vocabulary allows, else 64, and all pairs are grouped once.

    python -m benchmarks.duckdb_script --posts DIR --out DIR --last-day 2026-11-07 --days 7 --rules classic
"""

import argparse
import datetime as dt
import os
import sys
import time
from pathlib import Path

import duckdb

from benchmarks.stop_words import stop_words

RULES = {
    "classic": r"""
        CREATE MACRO words_of(token) AS list_transform(regexp_extract_all(token, '[A-Za-z'']+'), lambda w: lower(w));
        CREATE MACRO url_key(url) AS lower(url);
    """,
    # As near as SQL gets: lower() where the rules say case folding, English stop words only.
    "standard": r"""
        CREATE MACRO words_of(token) AS list_filter(
            regexp_extract_all(
                nfc_normalize(lower(regexp_replace(token, 'https?://\S+|@[\p{L}\p{N}_]+', ' ', 'g'))),
                '[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:[''\x{2019}][\p{L}\p{M}\p{N}]+)*'),
            lambda w: regexp_matches(w, '\p{L}'));
        CREATE MACRO url_parts(url) AS
            regexp_extract(url, '^([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?',
                           ['scheme', 'host', 'path', 'query']);
        CREATE MACRO kept_query(query) AS array_to_string(
            list_filter(string_split(query, '&'), lambda p: NOT regexp_matches(p, '^(utm_[^=]*|fbclid|gclid)(=|$)')),
            '&');
        CREATE MACRO url_of(u) AS
            lower(u.scheme) || '://'
            || regexp_replace(lower(u.host), CASE lower(u.scheme) WHEN 'http' THEN ':80$' ELSE ':443$' END, '')
            || u.path || CASE WHEN kept_query(u.query) = '' THEN '' ELSE '?' || kept_query(u.query) END;
        CREATE MACRO url_key(url) AS
            CASE WHEN url_parts(url).scheme = '' THEN url ELSE url_of(url_parts(url)) END;
    """,
}


class Script:
    def __init__(self, threads: int, verbose: bool) -> None:
        self.db = duckdb.connect()
        self.db.execute(f"SET threads = {threads}")
        self.verbose = verbose

    def run(self, what: str, sql: str, *parameters: object) -> None:
        start = time.perf_counter()
        self.db.execute(sql, parameters or None)
        if self.verbose:
            print(f"{time.perf_counter() - start:7.3f} s  {what}", file=sys.stderr)

    def number(self, sql: str) -> int:
        row = self.db.execute(sql).fetchone()
        return int(row[0]) if row else 0


def make_tables(
    posts: Path, out: Path, last_day: dt.date, days: int, rules: str, threads: int, verbose: bool = False
) -> None:
    end = dt.datetime.combine(last_day + dt.timedelta(days=1), dt.time())
    middle, start = (end - dt.timedelta(days=n * days) for n in (1, 2))
    dates = [start.date() + dt.timedelta(days=n) for n in range(2 * days)]
    files = [str(file) for file in (posts / f"posts-{date}.jsonl" for date in dates) if file.exists()]
    if not files:
        raise SystemExit(f"No posts-YYYY-MM-DD.jsonl of {dates[0]} to {last_day} in {posts}")
    script = Script(threads, verbose)
    run, number = script.run, script.number
    run("rules", RULES[rules])
    run("stop words", "CREATE TABLE stop AS SELECT unnest(?::VARCHAR[]) AS word", stop_words(rules))

    # Insertion order is the order of file, then line: of posts with one id the largest rowid is the last.
    run(
        "read",
        """CREATE TABLE posts AS SELECT tid, created_at, text, urls
           FROM read_json(?, format = 'newline_delimited', ignore_errors = true, columns =
                {tid: 'BIGINT', created_at: 'TIMESTAMP', text: 'VARCHAR', urls: 'VARCHAR[]'})
           WHERE tid IS NOT NULL AND text IS NOT NULL AND created_at IS NOT NULL""",
        files,
    )
    run("order", "SET preserve_insertion_order = false")
    if number("SELECT count(*) - count(DISTINCT tid) FROM posts"):
        run("duplicates", "DELETE FROM posts WHERE rowid NOT IN (SELECT max(rowid) FROM posts GROUP BY tid)")

    spans = {"recent": (middle, end), "earlier": (start, middle)}
    sizes = {
        span: number(f"SELECT count(*) FROM posts WHERE created_at >= '{since}' AND created_at < '{until}'")
        for span, (since, until) in spans.items()
    }
    used = [span for span in spans if sizes[span]]
    for span in used:
        run(
            f"tokens, {span}",
            f"""CREATE TABLE tokens_{span} AS SELECT rowid::INTEGER AS post, unnest(string_split(text, ' ')) AS token
                FROM posts WHERE created_at >= '{spans[span][0]}' AND created_at < '{spans[span][1]}'""",
        )
    distinct = " UNION ".join(f"SELECT DISTINCT token FROM tokens_{span}" for span in used) or "SELECT ''"
    run(
        "vocabulary",
        f"""CREATE TABLE token_words AS SELECT token, unnest(list_distinct(words_of(token))) AS word
                FROM ({distinct}) AS t(token);
            CREATE TABLE words AS SELECT word, (row_number() OVER (ORDER BY word) - 1)::INTEGER AS id
                FROM (SELECT DISTINCT word FROM token_words WHERE word NOT IN (FROM stop));
            CREATE TABLE token_ids AS SELECT token, id FROM token_words JOIN words USING (word)""",
    )
    vocabulary = max(1, number("SELECT count(*) FROM words"))
    integer = "UINTEGER" if vocabulary**2 < 2**32 else "BIGINT"
    for span in spans:
        if not sizes[span]:
            run("no posts", f"CREATE TABLE pairs_{span} (pair {integer}, count BIGINT)")
            if span == "recent":
                run("no posts", "CREATE TABLE lists_recent (ids INTEGER[])")
            continue
        run(
            f"posts' word lists, {span}",
            f"""CREATE TABLE lists_{span} AS SELECT list_sort(list_distinct(list(id))) AS ids
                FROM tokens_{span} JOIN token_ids USING (token) GROUP BY post""",
        )
        run(
            f"pairs, {span}",
            f"""CREATE TABLE pairs_{span} AS SELECT (a * {vocabulary}::BIGINT + b)::{integer} AS pair, count(*) AS count
                FROM (SELECT ids[i] AS a, unnest(ids[i + 1:]) AS b
                      FROM (SELECT ids, unnest(range(1, len(ids))) AS i FROM lists_{span})) GROUP BY pair""",
        )

    # The small tables. n and m are the posts of the window and of the one before it.
    n, m = sizes["recent"], sizes["earlier"]
    stamp = f"TIMESTAMP '{end}' AS ts, DATE '{last_day}' AS date"
    named = f"JOIN words w1 ON w1.id = pair // {vocabulary} JOIN words w2 ON w2.id = pair % {vocabulary}"
    run(
        "word totals",
        f"""CREATE TABLE totals AS SELECT id, count(*) AS count, count(*) / {n}::DOUBLE AS percent
            FROM (SELECT unnest(ids) AS id FROM lists_recent) GROUP BY id""",
    )
    tables = {
        "word_counts": f"""
            SELECT word, percent, {stamp} FROM totals JOIN words USING (id) ORDER BY percent DESC, word LIMIT 500""",
        "urls": f"""
            SELECT url_key(url) AS url, sum(count)::BIGINT AS count, {stamp}
            FROM (SELECT url, count(*) AS count
                  FROM (SELECT unnest(urls) AS url FROM posts
                        WHERE created_at >= '{middle}' AND created_at < '{end}') GROUP BY url)
            WHERE url IS NOT NULL AND NOT ends_with(trim(url), '…')
                AND NOT regexp_full_match(trim(url), '(htt(ps?(:/{{0,2}})?)?)?', 'i')
            GROUP BY ALL ORDER BY count DESC, url LIMIT 300""",
        "word_cooccur": f"""
            WITH weighted AS (
                SELECT pair, pairs_recent.count,
                    pairs_recent.count * ln(least(1 / t1.percent, 1 / t2.percent)) AS log_weight
                FROM pairs_recent JOIN totals t1 ON t1.id = pair // {vocabulary}
                                  JOIN totals t2 ON t2.id = pair % {vocabulary}),
            top AS (FROM weighted ORDER BY log_weight DESC, pair LIMIT 300)
            SELECT w1.word AS w1, w2.word AS w2, count, log_weight, {stamp} FROM top {named}
            ORDER BY log_weight DESC, pair""",
        "emerging_pairs": f"""
            WITH both_windows AS (
                SELECT pair, r.count AS y, coalesce(e.count, 0) AS x
                FROM pairs_recent r LEFT JOIN pairs_earlier e USING (pair) WHERE r.count >= 5),
            scored AS (
                SELECT pair, y, x,
                    (ln((y + 0.5::DOUBLE) / ({n} - y + 0.5::DOUBLE)) - ln((x + 0.5::DOUBLE) / ({m} - x + 0.5::DOUBLE)))
                    / sqrt(1 / (y + 0.5::DOUBLE) + 1 / (x + 0.5::DOUBLE)) AS z
                FROM both_windows),
            top AS (FROM scored ORDER BY z DESC, pair LIMIT 100)
            SELECT w1.word AS w1, w2.word AS w2, y AS count, x AS previous_count, z, {stamp} FROM top {named}
            ORDER BY z DESC, pair""",
        "posts_by_hour": f"""
            SELECT date_trunc('hour', created_at) AS hour, count(*) AS posts, {stamp} FROM posts
            WHERE created_at >= '{middle}' AND created_at < '{end}' GROUP BY hour ORDER BY hour""",
    }
    out.mkdir(parents=True, exist_ok=True)
    for table, sql in tables.items():
        run(table, f"COPY ({sql}) TO '{out / f'{table}.parquet'}' (FORMAT parquet)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, required=True, help="folder with posts-YYYY-MM-DD.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--last-day", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--rules", choices=sorted(RULES), default="classic")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--verbose", action="store_true", help="print the time of each statement")
    args = parser.parse_args()
    make_tables(args.posts, args.out, args.last_day, args.days, args.rules, args.threads, args.verbose)


if __name__ == "__main__":
    main()
