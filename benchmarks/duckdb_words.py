r"""The hand-written peer of WordCount: one DuckDB query, which writes the same table as Parquet.

Two ways to write it: `plain` has the regular expression find the words of each line, as the words are defined; `tokens`
splits lines at their spaces, and the expression sees each distinct token once, which is about as fast as SQL gets.
DuckDB's \w is ASCII alone, so that both say what Python's means.

    python -m benchmarks.duckdb_words --input texts.txt --out words.parquet --way tokens
"""

import argparse
from pathlib import Path

import duckdb

WORDS = r"regexp_extract_all({text}, '[\p{{L}}\p{{M}}\p{{N}}_'']+')"
ASCII = r"regexp_extract_all({text}, '[\w'']+')"
WAYS = {
    "plain": "SELECT unnest({found}) AS word, 1 AS n FROM lines",
    "tokens": """
        SELECT unnest({found}) AS word, n
        FROM (SELECT text, count(*) AS n FROM (SELECT unnest(string_split(text, ' ')) AS text FROM lines) GROUP BY text)
    """,
}


def main() -> None:
    """Count the words of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--way", choices=WAYS, default="tokens")
    parser.add_argument("--ascii", action="store_true", help="the input is ASCII: a simpler expression will do")
    args = parser.parse_args()
    base = duckdb.connect()
    base.execute("SET preserve_insertion_order = false")
    base.execute(
        f"""
        CREATE VIEW lines AS FROM read_csv('{args.input}', columns = {{'text': 'VARCHAR'}}, delim = '\x01', quote = '',
            escape = '', header = false, auto_detect = false)
        """
    )
    found = (ASCII if args.ascii else WORDS).format(text="text")
    base.execute(
        f"""
        COPY (
            SELECT word, sum(n)::BIGINT AS count, 'words' AS source
            FROM ({WAYS[args.way].format(found=found)}) GROUP BY word ORDER BY word
        ) TO '{args.out}' (FORMAT parquet)
        """
    )


if __name__ == "__main__":
    main()
