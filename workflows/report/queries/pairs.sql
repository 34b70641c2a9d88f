-- The heaviest pairs of words, each with the share of posts of its two words (null for a word outside the top).
WITH words AS (
  SELECT word, percent
  FROM word_counts
  WHERE date = @date
)
SELECT pairs.w1, pairs.w2, pairs.count, pairs.log_weight, first.percent AS percent1, second.percent AS percent2
FROM word_cooccur AS pairs
LEFT JOIN words AS first ON first.word = pairs.w1
LEFT JOIN words AS second ON second.word = pairs.w2
WHERE pairs.date = @date
ORDER BY pairs.log_weight DESC, pairs.w1, pairs.w2
LIMIT @limit
