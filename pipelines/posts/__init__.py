"""The trend pipelines over a stream of posts: fetch, etl, count, aggregate."""
