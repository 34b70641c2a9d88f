-- Dates and times: a TIMESTAMP is DuckDB's TIMESTAMPTZ, a DATETIME its TIMESTAMP; the session is in UTC.

CREATE MACRO bq_zone(z VARCHAR) AS CASE WHEN z = 'UTC' THEN z WHEN regexp_full_match(z, '[+-][0-9]{1,2}(:[0-9]{2})?') THEN 'GMT' || z[1] || lpad(regexp_extract(z, '[0-9]+'), 2, '0') || CASE WHEN contains(z, ':') THEN z[-3:] ELSE ':00' END WHEN contains(z, '/') THEN z ELSE bq_fail_text('Invalid time zone: ' || z) END;
CREATE MACRO bq_local(x TIMESTAMPTZ, z VARCHAR) AS timezone(bq_zone(z), x);
CREATE MACRO bq_instant(x TIMESTAMP, z VARCHAR) AS timezone(bq_zone(z), x);

CREATE MACRO bq_current_date() AS CAST(timezone('UTC', now()) AS DATE), (z VARCHAR) AS CAST(bq_local(now(), z) AS DATE);
CREATE MACRO bq_current_timestamp() AS now();
CREATE MACRO bq_current_datetime() AS timezone('UTC', now()), (z VARCHAR) AS bq_local(now(), z);
CREATE MACRO bq_current_time() AS CAST(timezone('UTC', now()) AS TIME), (z VARCHAR) AS CAST(bq_local(now(), z) AS TIME);

CREATE MACRO bq_date(x DATE) AS x, (x TIMESTAMP) AS CAST(x AS DATE), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS DATE), (x VARCHAR) AS bq_to_date(x), (x TIMESTAMPTZ, z VARCHAR) AS CAST(bq_local(x, z) AS DATE), (y BIGINT, m BIGINT, d BIGINT) AS make_date(y, m, d);
CREATE MACRO bq_datetime(x DATE) AS CAST(x AS TIMESTAMP), (x TIMESTAMP) AS x, (x TIMESTAMPTZ) AS timezone('UTC', x), (x VARCHAR) AS bq_to_datetime(x), (x TIMESTAMPTZ, z VARCHAR) AS bq_local(x, z), (x DATE, t TIME) AS x + t, (y BIGINT, m BIGINT, d BIGINT, h BIGINT, i BIGINT, s BIGINT) AS CAST(py_datetime_text(printf('%04d-%02d-%02d %02d:%02d:%02d', y, m, d, h, i, s)) AS TIMESTAMP);
CREATE MACRO bq_timestamp(x DATE) AS bq_to_timestamp(x), (x TIMESTAMP) AS bq_to_timestamp(x), (x TIMESTAMPTZ) AS x, (x VARCHAR) AS bq_to_timestamp(x), (x VARCHAR, z VARCHAR) AS bq_instant(bq_to_datetime(x), z), (x DATE, z VARCHAR) AS bq_instant(CAST(x AS TIMESTAMP), z), (x TIMESTAMP, z VARCHAR) AS bq_instant(x, z);
CREATE MACRO bq_time(x TIME) AS x, (x TIMESTAMP) AS CAST(x AS TIME), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS TIME), (x TIMESTAMPTZ, z VARCHAR) AS CAST(bq_local(x, z) AS TIME), (h BIGINT, i BIGINT, s BIGINT) AS CAST(py_time_text(printf('%02d:%02d:%02d', h, i, s)) AS TIME);
CREATE MACRO bq_string(x JSON) AS py_json_string(x['json$']), (x DATE) AS bq_text(x), (x TIMESTAMP) AS bq_text(x), (x TIME) AS bq_text(x), (x TIMESTAMPTZ) AS bq_text(x), (x TIMESTAMPTZ, z VARCHAR) AS bq_stamp(bq_local(x, z)) || py_offset_short(epoch_us(bq_local(x, z)) - epoch_us(x));

CREATE MACRO bq_dow(x, first) AS (dayofweek(x) - first + 7) % 7;
CREATE MACRO bq_extract_year(x DATE) AS year(x), (x TIMESTAMP) AS year(x), (x TIMESTAMPTZ) AS year(timezone('UTC', x));
CREATE MACRO bq_extract_quarter(x DATE) AS quarter(x), (x TIMESTAMP) AS quarter(x), (x TIMESTAMPTZ) AS quarter(timezone('UTC', x));
CREATE MACRO bq_extract_month(x DATE) AS month(x), (x TIMESTAMP) AS month(x), (x TIMESTAMPTZ) AS month(timezone('UTC', x));
CREATE MACRO bq_extract_day(x DATE) AS day(x), (x TIMESTAMP) AS day(x), (x TIMESTAMPTZ) AS day(timezone('UTC', x));
CREATE MACRO bq_extract_dayofweek(x DATE) AS dayofweek(x) + 1, (x TIMESTAMP) AS dayofweek(x) + 1, (x TIMESTAMPTZ) AS dayofweek(timezone('UTC', x)) + 1;
CREATE MACRO bq_extract_dayofyear(x DATE) AS dayofyear(x), (x TIMESTAMP) AS dayofyear(x), (x TIMESTAMPTZ) AS dayofyear(timezone('UTC', x));
CREATE MACRO bq_extract_week(x DATE, first) AS (dayofyear(x) + 6 - bq_dow(x, first)) // 7, (x TIMESTAMP, first) AS (dayofyear(x) + 6 - bq_dow(x, first)) // 7, (x TIMESTAMPTZ, first) AS (dayofyear(timezone('UTC', x)) + 6 - bq_dow(timezone('UTC', x), first)) // 7;
CREATE MACRO bq_extract_isoweek(x DATE) AS weekofyear(x), (x TIMESTAMP) AS weekofyear(x), (x TIMESTAMPTZ) AS weekofyear(timezone('UTC', x));
CREATE MACRO bq_extract_isoyear(x DATE) AS isoyear(x), (x TIMESTAMP) AS isoyear(x), (x TIMESTAMPTZ) AS isoyear(timezone('UTC', x));
CREATE MACRO bq_extract_date(x DATE) AS bq_none('EXTRACT(DATE)', 'DATE'), (x TIMESTAMP) AS CAST(x AS DATE), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS DATE);
CREATE MACRO bq_extract_time(x DATE) AS bq_none('EXTRACT(TIME)', 'DATE'), (x TIMESTAMP) AS CAST(x AS TIME), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS TIME);
CREATE MACRO bq_extract_datetime(x DATE) AS bq_none('EXTRACT(DATETIME)', 'DATE'), (x TIMESTAMPTZ) AS timezone('UTC', x);
CREATE MACRO bq_extract_hour(x DATE) AS bq_none('EXTRACT(HOUR)', 'DATE'), (x TIME) AS hour(x), (x TIMESTAMP) AS hour(x), (x TIMESTAMPTZ) AS hour(timezone('UTC', x));
CREATE MACRO bq_extract_minute(x DATE) AS bq_none('EXTRACT(MINUTE)', 'DATE'), (x TIME) AS minute(x), (x TIMESTAMP) AS minute(x), (x TIMESTAMPTZ) AS minute(timezone('UTC', x));
CREATE MACRO bq_extract_second(x DATE) AS bq_none('EXTRACT(SECOND)', 'DATE'), (x TIME) AS second(x), (x TIMESTAMP) AS second(x), (x TIMESTAMPTZ) AS second(timezone('UTC', x));
CREATE MACRO bq_extract_millisecond(x DATE) AS bq_none('EXTRACT(MILLISECOND)', 'DATE'), (x TIME) AS millisecond(x) % 1000, (x TIMESTAMP) AS millisecond(x) % 1000, (x TIMESTAMPTZ) AS millisecond(timezone('UTC', x)) % 1000;
CREATE MACRO bq_extract_microsecond(x DATE) AS bq_none('EXTRACT(MICROSECOND)', 'DATE'), (x TIME) AS microsecond(x) % 1000000, (x TIMESTAMP) AS microsecond(x) % 1000000, (x TIMESTAMPTZ) AS microsecond(timezone('UTC', x)) % 1000000;

CREATE MACRO bq_week_of(x DATE, first) AS x - CAST(bq_dow(x, first) AS INTEGER);
CREATE MACRO bq_isoyear_of(x DATE) AS CAST(date_trunc('week', make_date(isoyear(x), 1, 4)) AS DATE);
CREATE MACRO bq_clip(u, x TIMESTAMP) AS epoch_us(x) - ((epoch_us(x) % u) + u) % u;
CREATE MACRO bq_trunc_day_(p, x DATE) AS CAST(date_trunc(p, x) AS DATE), (p, x TIMESTAMP) AS CAST(date_trunc(p, x) AS TIMESTAMP), (p, x TIMESTAMPTZ) AS timezone('UTC', CAST(date_trunc(p, timezone('UTC', x)) AS TIMESTAMP)), (p, x TIMESTAMPTZ, z VARCHAR) AS bq_instant(CAST(date_trunc(p, bq_local(x, z)) AS TIMESTAMP), z);
CREATE MACRO bq_trunc_clock_(p, x DATE) AS bq_none('a truncation to ' || p, 'DATE'), (p, x TIME) AS CAST(date_trunc(p, DATE '1970-01-01' + x) AS TIME), (p, x TIMESTAMP) AS date_trunc(p, x), (p, x TIMESTAMPTZ) AS timezone('UTC', date_trunc(p, timezone('UTC', x))), (p, x TIMESTAMPTZ, z VARCHAR) AS bq_instant(date_trunc(p, bq_local(x, z)), z);
CREATE MACRO bq_trunc_week_(first, x DATE) AS bq_week_of(x, first), (first, x TIMESTAMP) AS CAST(bq_week_of(CAST(x AS DATE), first) AS TIMESTAMP), (first, x TIMESTAMPTZ) AS bq_to_timestamp(bq_week_of(bq_date(x), first)), (first, x TIMESTAMPTZ, z VARCHAR) AS bq_instant(CAST(bq_week_of(bq_date(x, z), first) AS TIMESTAMP), z);
CREATE MACRO bq_trunc_isoyear_(p, x DATE) AS bq_isoyear_of(x), (p, x TIMESTAMP) AS CAST(bq_isoyear_of(CAST(x AS DATE)) AS TIMESTAMP), (p, x TIMESTAMPTZ) AS bq_to_timestamp(bq_isoyear_of(bq_date(x))), (p, x TIMESTAMPTZ, z VARCHAR) AS bq_instant(CAST(bq_isoyear_of(bq_date(x, z)) AS TIMESTAMP), z);

CREATE MACRO bq_moment(x DATE) AS CAST(x AS TIMESTAMP), (x TIMESTAMP) AS x, (x TIMESTAMPTZ) AS x;
CREATE MACRO bq_add_days_(x DATE, n) AS x + CAST(n AS INTEGER), (x TIMESTAMP, n) AS x + to_days(CAST(n AS INTEGER)), (x TIMESTAMPTZ, n) AS x + to_microseconds(n * 86400000000);
CREATE MACRO bq_add_months_(x DATE, n) AS CAST(x + to_months(CAST(n AS INTEGER)) AS DATE), (x TIMESTAMP, n) AS x + to_months(CAST(n AS INTEGER)), (x TIMESTAMPTZ, n) AS bq_none('an addition of months', 'TIMESTAMP');
CREATE MACRO bq_add_micros_(x DATE, n) AS bq_none('an addition of less than days', 'DATE'), (x TIMESTAMP, n) AS x + to_microseconds(n), (x TIMESTAMPTZ, n) AS x + to_microseconds(n), (x TIME, n) AS CAST(DATE '2000-01-01' + x + to_microseconds(n) AS TIME);

CREATE MACRO bq_diff_days_(a DATE, b DATE) AS CAST(a - b AS BIGINT);
CREATE MACRO bq_diff_weeks_(a DATE, b DATE, first) AS CAST((bq_week_of(a, first) - bq_week_of(b, first)) // 7 AS BIGINT);
CREATE MACRO bq_diff_months_(a DATE, b DATE, m) AS ((year(a) * 12 + month(a) - 1) // m) - ((year(b) * 12 + month(b) - 1) // m);
CREATE MACRO bq_diff_isoyears_(a DATE, b DATE) AS isoyear(a) - isoyear(b);
CREATE MACRO bq_diff_clock_(a TIMESTAMP, b TIMESTAMP, u) AS (bq_clip(u, a) - bq_clip(u, b)) // u, (a TIME, b TIME, u) AS (bq_clip(u, DATE '1970-01-01' + a) - bq_clip(u, DATE '1970-01-01' + b)) // u;
CREATE MACRO bq_diff_whole_(a TIMESTAMPTZ, b TIMESTAMPTZ, u) AS (epoch_us(a) - epoch_us(b)) // u;

CREATE MACRO bq_last_day_month_(x DATE) AS last_day(x), (x TIMESTAMP) AS last_day(x);
CREATE MACRO bq_last_day_week_(x DATE, first) AS bq_week_of(x, first) + 6, (x TIMESTAMP, first) AS bq_week_of(CAST(x AS DATE), first) + 6;
CREATE MACRO bq_last_day_months_(x DATE, p, m) AS CAST(date_trunc(p, x) + to_months(m) AS DATE) - 1, (x TIMESTAMP, p, m) AS CAST(date_trunc(p, x) + to_months(m) AS DATE) - 1;
CREATE MACRO bq_last_day_isoyear_(x DATE) AS bq_isoyear_of(bq_isoyear_of(x) + 375) - 1;

CREATE MACRO bq_unix_date(x DATE) AS CAST(x - DATE '1970-01-01' AS BIGINT);
CREATE MACRO bq_date_from_unix_date(n BIGINT) AS DATE '1970-01-01' + CAST(n AS INTEGER);
CREATE MACRO bq_floor_to(n, u) AS (n - ((n % u) + u) % u) // u;
CREATE MACRO bq_unix_seconds(x TIMESTAMPTZ) AS bq_floor_to(epoch_us(x), 1000000);
CREATE MACRO bq_unix_millis(x TIMESTAMPTZ) AS bq_floor_to(epoch_us(x), 1000);
CREATE MACRO bq_unix_micros(x TIMESTAMPTZ) AS epoch_us(x);
CREATE MACRO bq_timestamp_seconds(n BIGINT) AS timezone('UTC', make_timestamp(n * 1000000));
CREATE MACRO bq_timestamp_millis(n BIGINT) AS timezone('UTC', make_timestamp(n * 1000));
CREATE MACRO bq_timestamp_micros(n BIGINT) AS timezone('UTC', make_timestamp(n));

CREATE MACRO bq_format_date(f VARCHAR, x DATE) AS py_format_time('DATE', f, CAST(x AS TIMESTAMP), 0, ''), (f VARCHAR, x TIMESTAMP) AS py_format_time('DATE', f, x, 0, '');
CREATE MACRO bq_format_datetime(f VARCHAR, x TIMESTAMP) AS py_format_time('DATETIME', f, x, 0, ''), (f VARCHAR, x DATE) AS py_format_time('DATETIME', f, CAST(x AS TIMESTAMP), 0, '');
CREATE MACRO bq_format_time(f VARCHAR, x TIME) AS py_format_time('TIME', f, DATE '1970-01-01' + x, 0, '');
CREATE MACRO bq_format_timestamp(f VARCHAR, x TIMESTAMPTZ) AS py_format_time('TIMESTAMP', f, timezone('UTC', x), 0, 'UTC'), (f VARCHAR, x TIMESTAMPTZ, z VARCHAR) AS py_format_time('TIMESTAMP', f, bq_local(x, z), (epoch_us(bq_local(x, z)) - epoch_us(x)) // 1000000, z);
CREATE MACRO bq_parse_date(f VARCHAR, s VARCHAR) AS CAST(py_parse_time('DATE', f, s) AS DATE);
CREATE MACRO bq_parse_datetime(f VARCHAR, s VARCHAR) AS CAST(py_parse_time('DATETIME', f, s) AS TIMESTAMP);
CREATE MACRO bq_parse_time(f VARCHAR, s VARCHAR) AS CAST(CAST(py_parse_time('TIME', f, s) AS TIMESTAMP) AS TIME);
CREATE MACRO bq_parse_timestamp(f VARCHAR, s VARCHAR) AS CAST(py_parse_time('TIMESTAMP', f, s) || '+00' AS TIMESTAMPTZ), (f VARCHAR, s VARCHAR, z VARCHAR) AS CASE WHEN contains(f, '%z') OR contains(f, '%Z') OR contains(f, '%Ez') OR contains(f, '%s') THEN CAST(py_parse_time('TIMESTAMP', f, s) || '+00' AS TIMESTAMPTZ) ELSE bq_instant(CAST(py_parse_time('TIMESTAMP', f, s) AS TIMESTAMP), z) END;
