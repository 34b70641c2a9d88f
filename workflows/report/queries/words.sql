-- The words of the most posts; percent is a fraction of the window's posts.
SELECT word, percent
FROM word_counts
WHERE date = @date
ORDER BY percent DESC, word
LIMIT @limit
