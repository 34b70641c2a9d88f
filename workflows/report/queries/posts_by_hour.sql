-- Posts of each hour of the window that has posts; hour_epoch is the hour's start in seconds since 1970-01-01 UTC.
SELECT UNIX_SECONDS(hour) AS hour_epoch, posts
FROM posts_by_hour
WHERE date = @date AND posts > 0
ORDER BY hour_epoch
