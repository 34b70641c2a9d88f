-- The pairs that rose most against the window before, the clearest rise first.
SELECT w1, w2, count, previous_count, z
FROM emerging_pairs
WHERE date = @date AND z > 0 AND NOT IS_NAN(z)
ORDER BY z DESC, w1, w2
LIMIT @limit
