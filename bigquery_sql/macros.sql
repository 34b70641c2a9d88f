-- What functions of GoogleSQL mean, in DuckDB's words: bq_NAME is NAME. A function is known when it has a macro here or an
-- entry in functions.py; what has neither is refused by name. Overloads go by type, as GoogleSQL's signatures do. An error is a
-- text that can't be cast: unlike error(), that may stand within TRY(), which SAFE. needs.

CREATE MACRO bq_fail(m) AS CAST('bq: ' || m AS BIGINT);
CREATE MACRO bq_fail_text(m) AS CAST(bq_fail(m) AS VARCHAR);
CREATE MACRO bq_fail_bool(m) AS CAST(bq_fail(m) AS BOOLEAN);
CREATE MACRO bq_fail_float(m) AS CAST(bq_fail(m) AS DOUBLE);
CREATE MACRO bq_none(f, kind) AS bq_fail('no matching signature for ' || f || ' with ' || kind);
CREATE MACRO bq_error(m) AS bq_fail(m);

-- Operators. The overload for BIGINT stands beside the one for DOUBLE, which would take whole numbers otherwise.
CREATE MACRO bq_number(x) AS true, (x BIGINT) AS true, (x DECIMAL(38,9)) AS true, (x DOUBLE) AS NOT isnan(x);
CREATE MACRO bq_matched(x) AS x, (x BIGINT) AS x, (x DECIMAL(38,9)) AS x, (x DOUBLE) AS CASE WHEN NOT isnan(x) THEN x END;
CREATE MACRO bq_eq(a, b) AS a = b, (a BIGINT, b BIGINT) AS a = b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a = b, (a DOUBLE, b DOUBLE) AS a = b AND NOT isnan(a);
CREATE MACRO bq_ne(a, b) AS a <> b, (a BIGINT, b BIGINT) AS a <> b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a <> b, (a DOUBLE, b DOUBLE) AS a <> b OR isnan(a);
CREATE MACRO bq_lt(a, b) AS a < b, (a BIGINT, b BIGINT) AS a < b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a < b, (a DOUBLE, b DOUBLE) AS a < b AND NOT isnan(b);
CREATE MACRO bq_le(a, b) AS a <= b, (a BIGINT, b BIGINT) AS a <= b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a <= b, (a DOUBLE, b DOUBLE) AS a <= b AND NOT isnan(b);
CREATE MACRO bq_finite(r DOUBLE, a DOUBLE, b DOUBLE) AS CASE WHEN isinf(r) AND isfinite(a) AND isfinite(b) THEN bq_fail_float('floating point overflow') ELSE r END;
CREATE MACRO bq_add(a, b) AS a + b, (a BIGINT, b BIGINT) AS a + b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a + b, (a DOUBLE, b DOUBLE) AS bq_finite(a + b, a, b), (a DATE, b BIGINT) AS a + CAST(b AS INTEGER), (a BIGINT, b DATE) AS b + CAST(a AS INTEGER);
CREATE MACRO bq_sub(a BIGINT, b BIGINT) AS a - b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS a - b, (a DOUBLE, b DOUBLE) AS bq_finite(a - b, a, b), (a DATE, b BIGINT) AS a - CAST(b AS INTEGER), (a TIMESTAMPTZ, b INTERVAL) AS a - b, (a TIMESTAMP, b INTERVAL) AS a - b, (a DATE, b INTERVAL) AS a - b;
CREATE MACRO bq_mul(a BIGINT, b BIGINT) AS a * b, (a DECIMAL(38,9), b DECIMAL(38,9)) AS py_numeric('*', a, b), (a DOUBLE, b DOUBLE) AS bq_finite(a * b, a, b);
CREATE MACRO bq_div_(a DOUBLE, b DOUBLE) AS CASE WHEN b = 0 THEN bq_fail_float('division by zero: ' || bq_text(a) || ' / ' || bq_text(b)) ELSE bq_finite(a / b, a, b) END, (a BIGINT, b BIGINT) AS CASE WHEN b = 0 THEN bq_fail_float('division by zero: ' || a || ' / ' || b) ELSE CAST(a AS DOUBLE) / CAST(b AS DOUBLE) END, (a DECIMAL(38,9), b DECIMAL(38,9)) AS py_numeric('/', a, b);
CREATE MACRO bq_neg(a BIGINT) AS 0 - a, (a DOUBLE) AS -a, (a DECIMAL(38,9)) AS -a;
CREATE MACRO bq_concat_(a VARCHAR, b VARCHAR) AS a || b, (a BLOB, b BLOB) AS a || b, (a, b) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN list_concat(a, b) END;
CREATE MACRO bq_and(a BIGINT, b BIGINT) AS a & b;
CREATE MACRO bq_or(a BIGINT, b BIGINT) AS a | b;
CREATE MACRO bq_xor(a BIGINT, b BIGINT) AS xor(a, b);
CREATE MACRO bq_not(a BIGINT) AS ~a;
CREATE MACRO bq_shl(a BIGINT, b BIGINT) AS py_shift(a, b, true);
CREATE MACRO bq_shr(a BIGINT, b BIGINT) AS py_shift(a, b, false);
CREATE MACRO bq_like(a VARCHAR, b VARCHAR) AS a LIKE b ESCAPE '\';

-- Numbers
CREATE MACRO bq_abs(x BIGINT) AS abs(x), (x DOUBLE) AS abs(x), (x DECIMAL(38,9)) AS abs(x);
CREATE MACRO bq_sign(x BIGINT) AS CAST(sign(x) AS BIGINT), (x DOUBLE) AS CASE WHEN isnan(x) THEN x ELSE CAST(sign(x) AS DOUBLE) END, (x DECIMAL(38,9)) AS CAST(sign(x) AS DECIMAL(38,9));
CREATE MACRO bq_is_nan(x DOUBLE) AS isnan(x);
CREATE MACRO bq_is_inf(x DOUBLE) AS isinf(x);
CREATE MACRO bq_ieee_divide(a DOUBLE, b DOUBLE) AS a / b;
CREATE MACRO bq_safe_divide(a DOUBLE, b DOUBLE) AS CASE WHEN b <> 0 THEN bq_finite_or_null(a / b, a, b) END, (a BIGINT, b BIGINT) AS CASE WHEN b <> 0 THEN CAST(a AS DOUBLE) / CAST(b AS DOUBLE) END, (a DECIMAL(38,9), b DECIMAL(38,9)) AS CASE WHEN b <> 0 THEN TRY(py_numeric('/', a, b)) END;
CREATE MACRO bq_finite_or_null(r DOUBLE, a DOUBLE, b DOUBLE) AS CASE WHEN NOT (isinf(r) AND isfinite(a) AND isfinite(b)) THEN r END;
CREATE MACRO bq_div(a BIGINT, b BIGINT) AS CASE WHEN b = 0 THEN bq_fail('division by zero: ' || a || ' / ' || b) ELSE a // b END, (a DECIMAL(38,9), b DECIMAL(38,9)) AS py_numeric('//', a, b);
CREATE MACRO bq_mod(a BIGINT, b BIGINT) AS CASE WHEN b = 0 THEN bq_fail('division by zero: MOD(' || a || ', 0)') ELSE a % b END, (a DECIMAL(38,9), b DECIMAL(38,9)) AS py_numeric('%', a, b);
CREATE MACRO bq_round(x BIGINT) AS CAST(x AS DOUBLE), (x DOUBLE) AS round(x), (x DECIMAL(38,9)) AS CAST(round(x) AS DECIMAL(38,9)), (x BIGINT, n BIGINT) AS round(CAST(x AS DOUBLE), CAST(n AS INTEGER)), (x DOUBLE, n BIGINT) AS round(x, CAST(n AS INTEGER)), (x DECIMAL(38,9), n BIGINT) AS py_numeric('round', x, CAST(n AS DECIMAL(38,9)));
CREATE MACRO bq_trunc(x BIGINT) AS CAST(x AS DOUBLE), (x DOUBLE) AS trunc(x), (x DECIMAL(38,9)) AS CAST(trunc(x) AS DECIMAL(38,9)), (x DOUBLE, n BIGINT) AS CASE WHEN isfinite(x) THEN py_trunc(x, n) ELSE x END, (x BIGINT, n BIGINT) AS py_trunc(CAST(x AS DOUBLE), n), (x DECIMAL(38,9), n BIGINT) AS py_numeric('trunc', x, CAST(n AS DECIMAL(38,9)));
CREATE MACRO bq_ceil(x BIGINT) AS CAST(x AS DOUBLE), (x DOUBLE) AS ceil(x), (x DECIMAL(38,9)) AS CAST(ceil(x) AS DECIMAL(38,9));
CREATE MACRO bq_floor(x BIGINT) AS CAST(x AS DOUBLE), (x DOUBLE) AS floor(x), (x DECIMAL(38,9)) AS CAST(floor(x) AS DECIMAL(38,9));
CREATE MACRO bq_positive(x DOUBLE, f) AS CASE WHEN x > 0 THEN x ELSE bq_fail_float('argument of ' || f || ' must be positive') END;
CREATE MACRO bq_sqrt(x DOUBLE) AS CASE WHEN x < 0 THEN bq_fail_float('argument to SQRT cannot be negative') ELSE sqrt(x) END;
CREATE MACRO bq_exp(x DOUBLE) AS bq_finite(exp(x), x, x);
CREATE MACRO bq_ln(x DOUBLE) AS ln(bq_positive(x, 'LN'));
CREATE MACRO bq_log10(x DOUBLE) AS log10(bq_positive(x, 'LOG10'));
CREATE MACRO bq_log(x DOUBLE) AS ln(bq_positive(x, 'LOG')), (x DOUBLE, b DOUBLE) AS CASE WHEN b = 1 THEN bq_fail_float('the base of LOG cannot be 1') WHEN b = 10 THEN log10(bq_positive(x, 'LOG')) WHEN b = 2 THEN log2(bq_positive(x, 'LOG')) ELSE ln(bq_positive(x, 'LOG')) / ln(bq_positive(b, 'LOG')) END;
CREATE MACRO bq_pow(x DOUBLE, y DOUBLE) AS CASE WHEN x = 0 AND y < 0 OR x < 0 AND isfinite(y) AND y <> trunc(y) THEN bq_fail_float('POW of ' || x || ' and ' || y || ' is no number') ELSE bq_finite(pow(x, y), x, y) END, (x DECIMAL(38,9), y DECIMAL(38,9)) AS bq_none('POW', 'NUMERIC');
CREATE MACRO bq_cbrt(x DOUBLE) AS cbrt(x);
CREATE MACRO bq_sin(x DOUBLE) AS sin(x);
CREATE MACRO bq_cos(x DOUBLE) AS cos(x);
CREATE MACRO bq_tan(x DOUBLE) AS tan(x);
CREATE MACRO bq_asin(x DOUBLE) AS asin(x);
CREATE MACRO bq_acos(x DOUBLE) AS acos(x);
CREATE MACRO bq_atan(x DOUBLE) AS atan(x);
CREATE MACRO bq_atan2(y DOUBLE, x DOUBLE) AS atan2(y, x);
CREATE MACRO bq_sinh(x DOUBLE) AS sinh(x);
CREATE MACRO bq_cosh(x DOUBLE) AS cosh(x);
CREATE MACRO bq_tanh(x DOUBLE) AS tanh(x);
CREATE MACRO bq_rand() AS random();
CREATE MACRO bq_greatest_(a, b) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN greatest(a, b) END;
CREATE MACRO bq_least_(a, b) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN least(a, b) END, (a BIGINT, b BIGINT) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN least(a, b) END, (a DECIMAL(38,9), b DECIMAL(38,9)) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN least(a, b) END, (a DOUBLE, b DOUBLE) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN isnan(a) OR isnan(b) THEN CAST('nan' AS DOUBLE) ELSE least(a, b) END;
CREATE MACRO bq_bit_count(x BIGINT) AS CAST(bit_count(x) AS BIGINT);
CREATE MACRO bq_range_bucket(p, a) AS CASE WHEN p IS NOT NULL THEN CAST(len(list_filter(a, lambda v: v <= p)) AS BIGINT) END;
CREATE MACRO bq_generate_uuid() AS CAST(uuid() AS VARCHAR);

-- Casts
CREATE MACRO bq_to_int64(x BIGINT) AS x, (x DOUBLE) AS CAST(round(x) AS BIGINT), (x DECIMAL(38,9)) AS CAST(round(x) AS BIGINT), (x BOOLEAN) AS CAST(x AS BIGINT), (x VARCHAR) AS py_int64(x);
CREATE MACRO bq_to_float64(x BIGINT) AS CAST(x AS DOUBLE), (x DOUBLE) AS x, (x DECIMAL(38,9)) AS CAST(CAST(x AS VARCHAR) AS DOUBLE), (x VARCHAR) AS CASE WHEN lower(trim(x)) IN ('nan', '+nan', '-nan') THEN CAST('nan' AS DOUBLE) ELSE py_float64(x) END, (x BOOLEAN) AS bq_none('CAST AS FLOAT64', 'BOOL');
CREATE MACRO bq_to_numeric(x BIGINT) AS CAST(x AS DECIMAL(38,9)), (x DOUBLE) AS py_numeric_of(bq_text(x)), (x DECIMAL(38,9)) AS x, (x VARCHAR) AS py_numeric_of(x), (x BOOLEAN) AS bq_none('CAST AS NUMERIC', 'BOOL');
CREATE MACRO bq_to_bool(x BOOLEAN) AS x, (x BIGINT) AS x <> 0, (x VARCHAR) AS CASE lower(x) WHEN 'true' THEN true WHEN 'false' THEN false ELSE CASE WHEN x IS NOT NULL THEN bq_fail_bool('Bad bool value: ' || x) END END, (x DOUBLE) AS bq_none('CAST AS BOOL', 'FLOAT64'), (x DECIMAL(38,9)) AS bq_none('CAST AS BOOL', 'NUMERIC');
CREATE MACRO bq_to_bytes(x BLOB) AS x, (x VARCHAR) AS encode(x);
CREATE MACRO bq_text(x VARCHAR) AS x, (x BIGINT) AS CAST(x AS VARCHAR), (x DOUBLE) AS py_float_text(x), (x DECIMAL(38,9)) AS regexp_replace(regexp_replace(CAST(x AS VARCHAR), '(\.[0-9]*?)0+$', '\1'), '\.$', ''), (x BOOLEAN) AS CAST(x AS VARCHAR), (x DATE) AS strftime(x, '%Y-%m-%d'), (x TIMESTAMP) AS bq_stamp(x), (x TIMESTAMPTZ) AS bq_stamp(timezone('UTC', x)) || '+00', (x TIME) AS bq_fraction(strftime(DATE '1970-01-01' + x, '%H:%M:%S.%f')), (x BLOB) AS decode(x);
CREATE MACRO bq_stamp(x TIMESTAMP) AS bq_fraction(strftime(x, '%Y-%m-%d %H:%M:%S.%f'));
CREATE MACRO bq_fraction(t VARCHAR) AS CASE WHEN t LIKE '%.000000' THEN t[:-8] WHEN t LIKE '%000' THEN t[:-4] ELSE t END;
CREATE MACRO bq_to_date(x DATE) AS x, (x TIMESTAMP) AS CAST(x AS DATE), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS DATE), (x VARCHAR) AS CAST(py_date_text(x) AS DATE);
CREATE MACRO bq_to_datetime(x DATE) AS CAST(x AS TIMESTAMP), (x TIMESTAMP) AS x, (x TIMESTAMPTZ) AS timezone('UTC', x), (x VARCHAR) AS CAST(py_datetime_text(x) AS TIMESTAMP);
CREATE MACRO bq_to_timestamp(x DATE) AS timezone('UTC', CAST(x AS TIMESTAMP)), (x TIMESTAMP) AS timezone('UTC', x), (x TIMESTAMPTZ) AS x, (x VARCHAR) AS CAST(py_timestamp_text(x) AS TIMESTAMPTZ);
CREATE MACRO bq_to_time(x TIME) AS x, (x TIMESTAMP) AS CAST(x AS TIME), (x TIMESTAMPTZ) AS CAST(timezone('UTC', x) AS TIME), (x VARCHAR) AS CAST(py_time_text(x) AS TIME);

-- Strings
CREATE MACRO bq_length(s VARCHAR) AS length(s), (s BLOB) AS octet_length(s);
CREATE MACRO bq_char_length(s VARCHAR) AS length(s);
CREATE MACRO bq_character_length(s VARCHAR) AS length(s);
CREATE MACRO bq_byte_length(s VARCHAR) AS strlen(s), (s BLOB) AS octet_length(s);
CREATE MACRO bq_lower(s VARCHAR) AS lower(s);
CREATE MACRO bq_upper(s VARCHAR) AS upper(s);
CREATE MACRO bq_from(n BIGINT, p BIGINT) AS CASE WHEN p = 0 OR p < -n THEN 1 WHEN p < 0 THEN n + p + 1 ELSE p END;
CREATE MACRO bq_substr(s VARCHAR, p BIGINT) AS substring(s, bq_from(length(s), p)), (s VARCHAR, p BIGINT, n BIGINT) AS CASE WHEN n < 0 THEN bq_fail_text('the length of SUBSTR cannot be negative') ELSE substring(s, bq_from(length(s), p), n) END, (s BLOB, p BIGINT) AS py_cut(s, p, NULL), (s BLOB, p BIGINT, n BIGINT) AS py_cut(s, p, bq_count(n, 'SUBSTR'));
CREATE MACRO bq_count(n BIGINT, f) AS CASE WHEN n < 0 THEN bq_fail('the length of ' || f || ' cannot be negative') ELSE n END;
CREATE MACRO bq_left(s VARCHAR, n BIGINT) AS CASE WHEN n < 0 THEN bq_fail_text('the length of LEFT cannot be negative') ELSE left(s, n) END, (s BLOB, n BIGINT) AS py_cut(s, 1, bq_count(n, 'LEFT'));
CREATE MACRO bq_right(s VARCHAR, n BIGINT) AS CASE WHEN n < 0 THEN bq_fail_text('the length of RIGHT cannot be negative') ELSE right(s, n) END;
CREATE MACRO bq_strpos(s VARCHAR, t VARCHAR) AS instr(s, t);
CREATE MACRO bq_instr(s VARCHAR, t VARCHAR) AS py_instr(s, t, 1, 1), (s VARCHAR, t VARCHAR, p BIGINT) AS py_instr(s, t, p, 1), (s VARCHAR, t VARCHAR, p BIGINT, n BIGINT) AS py_instr(s, t, p, n);
CREATE MACRO bq_split(s VARCHAR) AS string_split(s, ','), (s VARCHAR, d VARCHAR) AS string_split(s, d);
CREATE MACRO bq_replace(s VARCHAR, a VARCHAR, b VARCHAR) AS replace(s, a, b);
CREATE MACRO bq_reverse(s VARCHAR) AS reverse(s);
CREATE MACRO bq_repeat(s VARCHAR, n BIGINT) AS CASE WHEN n < 0 THEN bq_fail_text('the count of REPEAT cannot be negative') ELSE repeat(s, n) END;
CREATE MACRO bq_starts_with(s VARCHAR, t VARCHAR) AS starts_with(s, t), (s BLOB, t BLOB) AS starts_with(hex(s), hex(t));
CREATE MACRO bq_ends_with(s VARCHAR, t VARCHAR) AS ends_with(s, t), (s BLOB, t BLOB) AS ends_with(hex(s), hex(t));
CREATE MACRO bq_ltrim(s VARCHAR) AS regexp_replace(s, '^[\s\v\pZ\x{85}]+', ''), (s VARCHAR, c VARCHAR) AS ltrim(s, c);
CREATE MACRO bq_rtrim(s VARCHAR) AS regexp_replace(s, '[\s\v\pZ\x{85}]+$', ''), (s VARCHAR, c VARCHAR) AS rtrim(s, c);
CREATE MACRO bq_trim(s VARCHAR) AS bq_rtrim(bq_ltrim(s)), (s VARCHAR, c VARCHAR) AS trim(s, c);
CREATE MACRO bq_lpad(s VARCHAR, n BIGINT) AS py_pad('LPAD', s, n, ' '), (s VARCHAR, n BIGINT, p VARCHAR) AS py_pad('LPAD', s, n, p);
CREATE MACRO bq_rpad(s VARCHAR, n BIGINT) AS py_pad('RPAD', s, n, ' '), (s VARCHAR, n BIGINT, p VARCHAR) AS py_pad('RPAD', s, n, p);
CREATE MACRO bq_initcap(s VARCHAR) AS py_initcap(s, NULL), (s VARCHAR, d VARCHAR) AS py_initcap(s, d);
CREATE MACRO bq_translate(s VARCHAR, a VARCHAR, b VARCHAR) AS py_translate(s, a, b);
CREATE MACRO bq_normalize_(s VARCHAR, form VARCHAR) AS py_normalize(s, form, false);
CREATE MACRO bq_normalize_and_casefold_(s VARCHAR, form VARCHAR) AS py_normalize(s, form, true);
CREATE MACRO bq_soundex(s VARCHAR) AS py_soundex(s);
CREATE MACRO bq_ascii(s VARCHAR) AS CASE WHEN s = '' THEN CAST(0 AS BIGINT) WHEN unicode(s) > 127 THEN bq_fail('ASCII of a string that does not start with an ASCII character') ELSE CAST(unicode(s) AS BIGINT) END;
CREATE MACRO bq_unicode(s VARCHAR) AS CASE WHEN s = '' THEN CAST(0 AS BIGINT) ELSE CAST(unicode(s) AS BIGINT) END;
CREATE MACRO bq_chr(n BIGINT) AS CASE WHEN n = 0 THEN '' WHEN n < 0 OR n > 1114111 OR n BETWEEN 55296 AND 57343 THEN bq_fail_text('Invalid codepoint ' || n) ELSE chr(CAST(n AS INTEGER)) END;
CREATE MACRO bq_to_code_points(s VARCHAR) AS list_transform(py_points(s), lambda c: CAST(c AS BIGINT)), (s BLOB) AS py_bytes_points(s);
CREATE MACRO bq_code_points_to_string(a) AS py_string_of(CAST(a AS BIGINT[]));
CREATE MACRO bq_code_points_to_bytes(a) AS py_bytes_of(CAST(a AS BIGINT[]));
CREATE MACRO bq_to_hex(b BLOB) AS lower(hex(b));
CREATE MACRO bq_from_hex(s VARCHAR) AS unhex(CASE WHEN length(s) % 2 = 1 THEN '0' || s ELSE s END);
CREATE MACRO bq_to_base64(b BLOB) AS base64(b);
CREATE MACRO bq_from_base64(s VARCHAR) AS from_base64(s);
CREATE MACRO bq_safe_convert_bytes_to_string(b BLOB) AS py_decode(b);
CREATE MACRO bq_md5(s VARCHAR) AS unhex(md5(s)), (s BLOB) AS unhex(md5(s));
CREATE MACRO bq_sha1(s VARCHAR) AS unhex(sha1(s)), (s BLOB) AS unhex(sha1(s));
CREATE MACRO bq_sha256(s VARCHAR) AS unhex(sha256(s)), (s BLOB) AS unhex(sha256(s));
CREATE MACRO bq_sha512(s VARCHAR) AS py_sha512(encode(s)), (s BLOB) AS py_sha512(s);
CREATE MACRO bq_farm_fingerprint(s VARCHAR) AS py_farm_fingerprint(encode(s)), (s BLOB) AS py_farm_fingerprint(s);
CREATE MACRO bq_contains_substr(s VARCHAR, t VARCHAR) AS py_contains(s, t);
CREATE MACRO bq_edit_distance(a VARCHAR, b VARCHAR) AS py_distance(a, b, NULL), (a VARCHAR, b VARCHAR, m BIGINT) AS py_distance(a, b, m);
CREATE MACRO bq_regexp_contains(s VARCHAR, r VARCHAR) AS regexp_matches(s, r);
CREATE MACRO bq_regexp_extract_(s VARCHAR, r VARCHAR, g) AS CASE WHEN regexp_matches(s, r) THEN regexp_extract(s, r, g) END;
CREATE MACRO bq_regexp_extract_all_(s VARCHAR, r VARCHAR, g) AS regexp_extract_all(s, r, g);
CREATE MACRO bq_regexp_extract_at_(s VARCHAR, r VARCHAR, g, p BIGINT, n BIGINT) AS CASE WHEN p < 1 OR n < 1 THEN bq_fail_text('position and occurrence of REGEXP_EXTRACT must be positive') ELSE regexp_extract_all(substring(s, p), r, g)[n] END;
CREATE MACRO bq_regexp_instr_(s VARCHAR, r VARCHAR, p BIGINT, e) AS CASE WHEN p < 1 THEN bq_fail('position of REGEXP_INSTR must be positive') WHEN regexp_matches(substring(s, p), r) THEN p + length(regexp_extract(substring(s, p), '\A((?s:.*?))(?:' || r || ')', 1)) + CASE e WHEN 1 THEN length(regexp_extract(substring(s, p), r)) ELSE 0 END WHEN s IS NOT NULL AND r IS NOT NULL AND p IS NOT NULL THEN 0 END;
CREATE MACRO bq_regexp_replace(s VARCHAR, r VARCHAR, t VARCHAR) AS regexp_replace(s, r, t, 'g');

-- JSON is a struct of one text, so that it is no STRING; JSON below stands for that type.
CREATE MACRO bq_json_(t VARCHAR) AS CASE WHEN t IS NOT NULL THEN {'json$': t} END;
CREATE MACRO bq_json_value(j JSON, p VARCHAR) AS py_json_value(j['json$'], p), (j VARCHAR, p VARCHAR) AS py_json_value(j, p);
CREATE MACRO bq_json_query(j JSON, p VARCHAR) AS bq_json_(py_json_query(j['json$'], p)), (j VARCHAR, p VARCHAR) AS py_json_query_text(j, p);
CREATE MACRO bq_json_value_array(j JSON, p VARCHAR) AS py_json_values(j['json$'], p), (j VARCHAR, p VARCHAR) AS py_json_values(j, p);
CREATE MACRO bq_json_query_array(j JSON, p VARCHAR) AS list_transform(py_json_queries(j['json$'], p), lambda t: {'json$': t}), (j VARCHAR, p VARCHAR) AS py_json_queries(j, p);
CREATE MACRO bq_parse_json(s VARCHAR) AS bq_json_(py_parse_json(s));
CREATE MACRO bq_json_type(j JSON) AS py_json_type(j['json$']);
CREATE MACRO bq_json_field(j JSON, k VARCHAR) AS bq_json_(py_json_field(j['json$'], k));
CREATE MACRO bq_lax_bool(j JSON) AS py_json_lax_bool(j['json$']);
CREATE MACRO bq_lax_int64(j JSON) AS py_json_lax_int64(j['json$']);
CREATE MACRO bq_lax_float64(j JSON) AS CASE WHEN regexp_matches(j['json$'], '(?i)^"\s*[+-]?nan\s*"$') THEN CAST('nan' AS DOUBLE) ELSE py_json_lax_float64(j['json$']) END;
CREATE MACRO bq_lax_string(j JSON) AS py_json_lax_string(j['json$']);
CREATE MACRO bq_bool(j JSON) AS py_json_bool(j['json$']);
CREATE MACRO bq_int64(j JSON) AS py_json_int64(j['json$']);
CREATE MACRO bq_float64(j JSON) AS py_json_float64(j['json$']);
CREATE MACRO bq_to_json(x) AS bq_json_(py_parse_json(py_json_of(x)));
CREATE MACRO bq_to_json_string(x) AS py_to_json(x);

-- Arrays
CREATE MACRO bq_array_length(a) AS CAST(len(a) AS BIGINT);
CREATE MACRO bq_offset(a, i, base) AS CASE WHEN i < base OR i >= len(a) + base THEN a[bq_fail('Array index ' || i || ' is out of bounds')] ELSE a[i + 1 - base] END;
CREATE MACRO bq_safe_offset(a, i, base) AS CASE WHEN i >= base THEN a[i + 1 - base] END;
CREATE MACRO bq_array_reverse(a) AS list_reverse(a);
CREATE MACRO bq_array_to_string(a VARCHAR[], d VARCHAR) AS py_join(list_filter(a, lambda v: v IS NOT NULL), d), (a VARCHAR[], d VARCHAR, n VARCHAR) AS py_join(list_transform(a, lambda v: coalesce(v, n)), d);
CREATE MACRO bq_array_first(a) AS CASE WHEN len(a) = 0 THEN a[bq_fail('ARRAY_FIRST cannot get the first element of an empty array')] ELSE a[1] END;
CREATE MACRO bq_array_last(a) AS CASE WHEN len(a) = 0 THEN a[bq_fail('ARRAY_LAST cannot get the last element of an empty array')] ELSE a[len(a)] END;
CREATE MACRO bq_generate_array(a BIGINT, b BIGINT) AS generate_series(a, b), (a BIGINT, b BIGINT, s BIGINT) AS generate_series(a, b, bq_step(s)), (a DOUBLE, b DOUBLE) AS py_series(a, b, 1), (a DOUBLE, b DOUBLE, s DOUBLE) AS py_series(a, b, s);
CREATE MACRO bq_step(s BIGINT) AS CASE WHEN s = 0 THEN bq_fail('Sequence step cannot be 0') ELSE s END;
CREATE MACRO bq_no_struct(x) AS CASE WHEN starts_with(typeof(x), 'STRUCT') AND NOT starts_with(typeof(x), 'STRUCT("json$"') THEN [x][bq_fail('* of a STRUCT that UNNEST gives is not supported on one machine; name its fields')] ELSE x END;
CREATE MACRO bq_unnested(a) AS a;

-- Aggregates
CREATE MACRO bq_narrow(x BIGINT) AS x, (x HUGEINT) AS CAST(x AS BIGINT), (x DOUBLE) AS x, (x DECIMAL(38,9)) AS x;
CREATE MACRO bq_min(x) AS min(x), (x BIGINT) AS min(x), (x DECIMAL(38,9)) AS min(x), (x DOUBLE) AS CASE WHEN bool_or(isnan(x)) THEN CAST('nan' AS DOUBLE) ELSE min(x) END;
CREATE MACRO bq_avg(x BIGINT) AS avg(x), (x DOUBLE) AS avg(x), (x DECIMAL(38,9)) AS py_numeric('/', sum(x), CAST(count(x) AS DECIMAL(38,9)));
CREATE MACRO bq_float_only(x BIGINT) AS x, (x DOUBLE) AS x, (x DECIMAL(38,9)) AS bq_fail('this aggregate of NUMERIC is not supported on one machine; cast to FLOAT64');
CREATE MACRO bq_min_window(x) AS x, (x BIGINT) AS x, (x DECIMAL(38,9)) AS x, (x DOUBLE) AS CASE WHEN isnan(x) THEN bq_fail_float('MIN OVER of NaN is not supported on one machine') ELSE x END;
CREATE MACRO bq_ranked(x) AS x, (x BIGINT) AS x, (x DECIMAL(38,9)) AS x, (x DOUBLE) AS CASE WHEN isnan(x) THEN bq_fail_float('the most or least of NaN is not supported on one machine') ELSE x END;
CREATE MACRO bq_joined(a VARCHAR[], d VARCHAR) AS py_join(a, d);
CREATE MACRO bq_top(m, n) AS list_transform(list_slice(list_sort(list_transform(map_entries(m), lambda e: {'c': -CAST(e.value AS BIGINT), 'v': e.key})), 1, n), lambda e: {'value': e.v, 'count': -e.c});
