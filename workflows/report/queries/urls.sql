-- The URLs that occur most often.
SELECT url, count
FROM urls
WHERE date = @date
ORDER BY count DESC, url
LIMIT @limit
