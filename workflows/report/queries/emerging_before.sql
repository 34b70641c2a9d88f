-- Over all ranked pairs, also those that fell: how many there are, and their count in the window before.
SELECT COUNT(*) AS pairs, COALESCE(SUM(previous_count), 0) AS previous_count
FROM emerging_pairs
WHERE date = @date
