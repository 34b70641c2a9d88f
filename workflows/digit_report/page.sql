-- All rows of a page, in one query, because each costs BigQuery a job and DuckDB a start. The names of both tables are
-- put in when it is asked.
WITH labels AS (
  -- Each image once; one with two different labels has none, nor has one whose label is no digit.
  SELECT id, IF(MIN(label) = MAX(label) AND MIN(label) BETWEEN 0 AND 9, MIN(label), NULL) AS label
  FROM (SELECT id, given_label AS label FROM images_table)
  GROUP BY id
),
scored AS (
  SELECT predictions.*, labels.label, GREATEST(p0, p1, p2, p3, p4, p5, p6, p7, p8, p9) AS confidence
  FROM predictions_table AS predictions
  LEFT JOIN labels ON labels.id = predictions.id
),
least AS (
  SELECT *
  FROM scored
  WHERE confidence BETWEEN 0 AND 1
  ORDER BY confidence, id
  LIMIT @least
)
SELECT
  -- How often images of each label, null where there is none, were taken for each digit.
  ARRAY(
    SELECT AS STRUCT label, digit, COUNT(*) AS images
    FROM scored
    GROUP BY label, digit
    ORDER BY label, digit
  ) AS taken,
  -- Images by the tenth that the highest probability lies in, null where that is no probability; correct and
  -- confidence are of those that have labels.
  ARRAY(
    SELECT AS STRUCT tenth, COUNT(*) AS images, COUNT(label) AS labelled, COUNTIF(digit = label) AS correct,
      SUM(IF(label IS NULL, 0, confidence)) AS confidence
    FROM (
      SELECT label, digit, confidence,
        IF(confidence BETWEEN 0 AND 1, LEAST(CAST(FLOOR(confidence * 10) AS INT64), 9), NULL) AS tenth
      FROM scored
    )
    GROUP BY tenth
    ORDER BY tenth
  ) AS tenths,
  -- The models that the predictions name.
  ARRAY(
    SELECT AS STRUCT model, COUNT(*) AS images
    FROM scored
    GROUP BY model
    ORDER BY images DESC, model
    LIMIT @models
  ) AS models,
  -- The images whose highest probability is lowest, with their pixels.
  ARRAY(
    SELECT AS STRUCT least.id, least.digit, least.label, least.confidence, drawn.image,
      [p0, p1, p2, p3, p4, p5, p6, p7, p8, p9] AS probabilities
    FROM least
    LEFT JOIN (
      SELECT id, ANY_VALUE(image) AS image
      FROM images_table
      WHERE id IN (SELECT id FROM least)
      GROUP BY id
    ) AS drawn ON drawn.id = least.id
    ORDER BY least.confidence, least.id
  ) AS least
