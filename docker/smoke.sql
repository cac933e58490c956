-- Does the extension answer, in a fresh container or anywhere else? It stops at the first thing that is wrong.
--
--   docker compose -f docker/compose.yaml exec -T cpu psql -U postgres <docker/smoke.sql
--
-- A model is run as well where one is named that the hub has, or its cache:
--   psql -v task='{"task": "feature-extraction", "model": "sentence-transformers/all-MiniLM-L6-v2"}' -f docker/smoke.sql

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgml_transform CASCADE;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pgml.tasks()) THEN
        RAISE EXCEPTION 'pgml.tasks() is empty';
    END IF;
    PERFORM pgml.transform('no-such-task', ARRAY['It works.']);
    RAISE EXCEPTION 'an unknown task raised nothing';
EXCEPTION
    WHEN feature_not_supported THEN
        NULL; -- 0A000, as it should
END
$$;

SELECT extversion AS pgml_transform, current_setting('server_version') AS postgresql, count(task) AS tasks
FROM pg_extension, pgml.tasks()
WHERE extname = 'pgml_transform'
GROUP BY extversion;

\if :{?task}
SELECT left(pgml.transform(:'task', ARRAY['It works.'])::text, 60) AS answer;
SELECT model, device, dtype, round(load_seconds::numeric, 1) AS load_seconds FROM pgml.deployments WHERE pid = pg_backend_pid();
\endif
