\echo Use "CREATE EXTENSION pgml_transform CASCADE" to load this file. \quit

-- Every SQL object of the extension, the current truth. `make install` writes @python@ out: the one line that puts
-- the extension's own Python packages first on the path and imports `entry`.
--
-- Who may run what: a new schema gives PUBLIC no USAGE, so nobody but a superuser reaches anything here until an
-- administrator says GRANT USAGE ON SCHEMA pgml TO somebody. Functions keep EXECUTE for PUBLIC where that grant is
-- all that should be asked for, since policy (allowed_models, settings) bounds what they do; what changes policy is
-- revoked from PUBLIC below. Nothing is SECURITY DEFINER but the two functions that read pg_stat_activity.

-- PostgresML's own extension has the same schema and other functions, and its library and PL/Python can't share a
-- session.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pgml') THEN
        RAISE EXCEPTION 'extension "pgml_transform" takes the place of extension "pgml", which is in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Both have a schema "pgml" with functions of the same names, and a session that has loaded'
                           ' PostgresML''s library crashes when it runs PL/Python.',
                  HINT = 'Create the extension in another database, or save what you need of it and DROP EXTENSION'
                         ' pgml first.';
    END IF;
END
$$;

-- policy and settings: tables that everybody reads and only their owner writes

CREATE TABLE pgml.allowed_models (
    pattern text PRIMARY KEY,
    trust_remote_code boolean NOT NULL DEFAULT false,
    note text
);
COMMENT ON TABLE pgml.allowed_models IS
    'models that may be loaded: shell-style patterns on the hub id or on a directory''s real path; empty: any hub model in safetensors';
COMMENT ON COLUMN pgml.allowed_models.pattern IS 'such as Qwen/* or /srv/models/*';
COMMENT ON COLUMN pgml.allowed_models.trust_remote_code IS 'whether these models'' own Python code may be run';
GRANT SELECT ON pgml.allowed_models TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('pgml.allowed_models', '');

CREATE TABLE pgml.configuration (
    name text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE pgml.configuration IS 'what pgml.configure keeps; pgml.settings shows it';
GRANT SELECT ON pgml.configuration TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('pgml.configuration', '');

-- outcomes: a result, or an error that PL/pgSQL raises, since one raised by PL/Python brings its traceback along

CREATE TYPE pgml.outcome AS (result jsonb, sqlstate text, message text, detail text, hint text, trace text);
COMMENT ON TYPE pgml.outcome IS 'internal: what the Python side answers, a result or an error';

CREATE FUNCTION pgml._answer(outcome pgml.outcome) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF outcome.sqlstate IS NULL THEN
        RETURN outcome.result;
    END IF;
    IF outcome.trace IS NOT NULL THEN
        RAISE DEBUG USING MESSAGE = outcome.trace;
    END IF;
    -- RAISE takes no NULL, and an empty field would be shown.
    IF outcome.detail IS NULL AND outcome.hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = outcome.sqlstate, MESSAGE = outcome.message;
    ELSIF outcome.detail IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = outcome.sqlstate, MESSAGE = outcome.message, HINT = outcome.hint;
    ELSIF outcome.hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = outcome.sqlstate, MESSAGE = outcome.message, DETAIL = outcome.detail;
    ELSE
        RAISE EXCEPTION USING ERRCODE = outcome.sqlstate, MESSAGE = outcome.message, DETAIL = outcome.detail,
            HINT = outcome.hint;
    END IF;
END
$$;
COMMENT ON FUNCTION pgml._answer(pgml.outcome) IS 'internal: the result of an outcome, or its error';

CREATE FUNCTION pgml._transform(task text, args text, inputs text[], cache boolean) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.transform(args[0], args[1], args[2], args[3])
$$;
COMMENT ON FUNCTION pgml._transform(text, text, text[], boolean) IS 'internal: pgml.transform';

CREATE FUNCTION pgml._load(task text) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.load(args[0])
$$;
COMMENT ON FUNCTION pgml._load(text) IS 'internal: pgml.load';

CREATE FUNCTION pgml._unload(model text) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.unload(args[0])
$$;
COMMENT ON FUNCTION pgml._unload(text) IS 'internal: pgml.unload';

CREATE FUNCTION pgml._explain(task text) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.explain(args[0])
$$;
COMMENT ON FUNCTION pgml._explain(text) IS 'internal: pgml.explain';

CREATE FUNCTION pgml._clear_gpu_cache(memory_usage real) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.clear_gpu_cache(args[0])
$$;
COMMENT ON FUNCTION pgml._clear_gpu_cache(real) IS 'internal: pgml.clear_gpu_cache';

CREATE FUNCTION pgml._check_setting(name text, value text) RETURNS pgml.outcome
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.check_setting(args[0], args[1])
$$;
COMMENT ON FUNCTION pgml._check_setting(text, text) IS 'internal: pgml.configure';

-- transform
--
-- COST: one call is some 100,000 times as dear as an operator, so that the planner puts it after every filter and
-- behind LIMIT. STRICT as PostgresML's: NULL for an argument answers NULL; a NULL element answers null in its place.

CREATE FUNCTION pgml.transform(
    task jsonb, args jsonb DEFAULT '{}', inputs text[] DEFAULT '{}', cache boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000000 SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._transform($1::text, $2::text, $3, $4)); END $$;
COMMENT ON FUNCTION pgml.transform(jsonb, jsonb, text[], boolean) IS
    'run a Hugging Face model on each input; the answers of its pipeline, as JSON';

CREATE FUNCTION pgml.transform(
    task text, args jsonb DEFAULT '{}', inputs text[] DEFAULT '{}', cache boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000000 SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._transform($1, $2::text, $3, $4)); END $$;
COMMENT ON FUNCTION pgml.transform(text, jsonb, text[], boolean) IS
    'run a task''s default model on each input; a task that begins with { is read as JSON';

-- The shorthands' parameters stay unnamed: with names, the named calls of the functions above are not unique.

CREATE FUNCTION pgml.transform(jsonb, text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000000 SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._transform($1::text, '{}', $2, true)); END $$;
COMMENT ON FUNCTION pgml.transform(jsonb, text[]) IS 'shorthand: task and inputs';

CREATE FUNCTION pgml.transform(text, text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000000 SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._transform($1, '{}', $2, true)); END $$;
COMMENT ON FUNCTION pgml.transform(text, text[]) IS 'shorthand: task and inputs';

-- the pipelines of this backend

CREATE FUNCTION pgml.load(task jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000000 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pgml._answer(pgml._load($1::text))
        || jsonb_build_object('usename', session_user, 'datname', current_database());
END
$$;
COMMENT ON FUNCTION pgml.load(jsonb) IS
    'load a task''s pipeline into this backend without running it; its row of pgml.deployments';

CREATE FUNCTION pgml.unload(model text DEFAULT NULL) RETURNS int
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._unload($1))::int; END $$;
COMMENT ON FUNCTION pgml.unload(text) IS
    'let go of this backend''s pipelines of a model (NULL: of all) and give their memory back; how many there were';

CREATE FUNCTION pgml.explain(task jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 100000 SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._explain($1::text)); END $$;
COMMENT ON FUNCTION pgml.explain(jsonb) IS
    'where a task''s model would go, in which form, and what it needs, without loading any weight';

CREATE FUNCTION pgml.clear_gpu_cache(memory_usage real DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN pgml._answer(pgml._clear_gpu_cache($1))::boolean; END $$;
COMMENT ON FUNCTION pgml.clear_gpu_cache(real) IS
    'give back GPU memory that this backend keeps unused; with an argument (0 to 1) only if a GPU is that full';

CREATE FUNCTION pgml.tasks(OUT task text, OUT input text, OUT default_model text, OUT description text)
RETURNS SETOF record
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.task_rows()
$$;
COMMENT ON FUNCTION pgml.tasks() IS 'the tasks that transform runs';

CREATE FUNCTION pgml.doctor(OUT check_name text, OUT ok boolean, OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.doctor_rows()
$$;
COMMENT ON FUNCTION pgml.doctor() IS 'what may be wrong with this installation, looked at one by one, with the remedies';

-- what all backends hold

CREATE FUNCTION pgml._backend_start() RETURNS bigint
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity WHERE pid = pg_backend_pid()
$$;
COMMENT ON FUNCTION pgml._backend_start() IS
    'internal: when this backend began; security definer, since a role that was SET sees no times of its session';

CREATE FUNCTION pgml._deployments(
    OUT pid int, OUT task text, OUT model text, OUT revision text, OUT engine text, OUT device text,
    OUT device_map jsonb, OUT dtype text, OUT quantization text, OUT parameters bigint, OUT host_bytes bigint,
    OUT gpu_bytes bigint, OUT state text, OUT progress real, OUT loaded_at timestamptz, OUT load_seconds float8,
    OUT last_used_at timestamptz, OUT calls bigint, OUT inputs bigint, OUT tokens_in bigint, OUT tokens_out bigint,
    OUT busy_seconds float8, OUT errors bigint, OUT last_error text
) RETURNS SETOF record
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.deployment_rows()
$$;
COMMENT ON FUNCTION pgml._deployments() IS
    'internal: pgml.deployments; security definer, since others'' backend_start is hidden from ordinary roles';

CREATE VIEW pgml.deployments AS
SELECT d.pid, a.usename, a.datname, d.task, d.model, d.revision, d.engine, d.device, d.device_map, d.dtype,
       d.quantization, d.parameters, d.host_bytes, d.gpu_bytes, d.state, d.progress, d.loaded_at, d.load_seconds,
       d.last_used_at, d.calls, d.inputs, d.tokens_in, d.tokens_out, d.busy_seconds, d.errors, d.last_error
FROM pgml._deployments() AS d
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = d.pid;
COMMENT ON VIEW pgml.deployments IS
    'one row per pipeline that any backend of this server holds, is loading, or failed to load';
GRANT SELECT ON pgml.deployments TO PUBLIC;

-- settings

CREATE FUNCTION pgml._settings(
    OUT name text, OUT value text, OUT default_value text, OUT source text, OUT type text, OUT who text,
    OUT meaning text
) RETURNS SETOF record
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
@python@
return entry.setting_rows()
$$;
COMMENT ON FUNCTION pgml._settings() IS 'internal: pgml.settings';

CREATE VIEW pgml.settings AS
SELECT name, value, default_value AS "default", source, who, meaning FROM pgml._settings();
COMMENT ON VIEW pgml.settings IS 'every setting, its value in this session, where that comes from, and who may change it';
GRANT SELECT ON pgml.settings TO PUBLIC;

CREATE FUNCTION pgml.configure(name text, value text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := pgml._answer(pgml._check_setting($1, $2)) #>> '{}';
BEGIN
    DELETE FROM pgml.configuration AS c WHERE c.name = known;
    IF $2 IS NOT NULL THEN
        INSERT INTO pgml.configuration VALUES (known, $2);
    END IF;
END
$$;
COMMENT ON FUNCTION pgml.configure(text, text) IS
    'set a setting for every session of this database; NULL puts it back to its default';
-- Settings protect the server: a superuser's alone, and the table behind them is writable for its owner only.
REVOKE EXECUTE ON FUNCTION pgml.configure(text, text) FROM PUBLIC;
