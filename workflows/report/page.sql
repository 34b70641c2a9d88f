-- All rows of a page, in one query, because each costs BigQuery a job and DuckDB a start.
SELECT
  -- Posts of each hour of the window that has posts; hour_epoch is the hour's start in seconds since 1970-01-01 UTC.
  ARRAY(
    SELECT AS STRUCT UNIX_SECONDS(hour) AS hour_epoch, posts
    FROM posts_by_hour
    WHERE date = @date AND posts > 0
    ORDER BY hour
  ) AS hours,
  -- The words of the most posts; percent is a fraction of the window's posts.
  ARRAY(
    SELECT AS STRUCT word, percent
    FROM word_counts
    WHERE date = @date
    ORDER BY percent DESC, word
    LIMIT @words
  ) AS words,
  -- The URLs that occur most often.
  ARRAY(
    SELECT AS STRUCT url, count
    FROM urls
    WHERE date = @date
    ORDER BY count DESC, url
    LIMIT @urls
  ) AS urls,
  -- The heaviest pairs of words, each with the share of posts of its two words (null for a word outside the top).
  ARRAY(
    SELECT AS STRUCT pairs.w1, pairs.w2, pairs.count, pairs.log_weight, first.percent AS percent1,
      second.percent AS percent2
    FROM word_cooccur AS pairs
    LEFT JOIN (SELECT word, percent FROM word_counts WHERE date = @date) AS first ON first.word = pairs.w1
    LEFT JOIN (SELECT word, percent FROM word_counts WHERE date = @date) AS second ON second.word = pairs.w2
    WHERE pairs.date = @date
    ORDER BY pairs.log_weight DESC, pairs.w1, pairs.w2
    LIMIT @pairs
  ) AS pairs,
  -- The pairs that rose most against the window before, the clearest rise first.
  ARRAY(
    SELECT AS STRUCT w1, w2, count, previous_count, z
    FROM emerging_pairs
    WHERE date = @date AND z > 0 AND NOT IS_NAN(z)
    ORDER BY z DESC, w1, w2
    LIMIT @emerging
  ) AS emerging,
  -- Whether any ranked pair, risen or fallen, occurs in the window before.
  (SELECT COALESCE(SUM(previous_count), 0) > 0 FROM emerging_pairs WHERE date = @date) AS seen_before
