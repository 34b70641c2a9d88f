"""The tables that the posts workflow publishes. Names and columns are fixed: add, never rename."""

from millrace.common.tables import Table

_TIME = {"ts": "TIMESTAMP", "date": "DATE"}
_PAIR = {"w1": "STRING", "w2": "STRING", "count": "INT64"}

TABLES = {
    "word_counts": Table({"word": "STRING", "percent": "FLOAT64", **_TIME}, cluster_by=["word"]),
    "urls": Table({"url": "STRING", "count": "INT64", **_TIME}, cluster_by=["url"]),
    "word_cooccur": Table({**_PAIR, "log_weight": "FLOAT64", **_TIME}, cluster_by=["w1", "w2"]),
    "emerging_pairs": Table({**_PAIR, "previous_count": "INT64", "z": "FLOAT64", **_TIME}, cluster_by=["w1", "w2"]),
    "posts_by_hour": Table({"hour": "TIMESTAMP", "posts": "INT64", **_TIME}, cluster_by=["hour"]),
}
