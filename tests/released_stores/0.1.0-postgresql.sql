SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA nango_of_the_release;
SET default_tablespace = '';
CREATE TABLE nango_of_the_release._nango_budgets (
    key text NOT NULL,
    holder text,
    free_at timestamp with time zone,
    day text,
    spent bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE nango_of_the_release._nango_children (
    dataset_id bigint NOT NULL,
    parent_id text NOT NULL COLLATE pg_catalog."C",
    external_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE nango_of_the_release._nango_columns (
    table_name text NOT NULL,
    path text NOT NULL,
    column_name text NOT NULL,
    type text NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE nango_of_the_release._nango_connections (
    id bigint NOT NULL,
    integration text NOT NULL,
    connection_id text NOT NULL,
    credentials text,
    metadata text DEFAULT '{}'::text NOT NULL,
    config text DEFAULT '{}'::text NOT NULL,
    webhook_url_source text,
    auth_failures integer DEFAULT 0 NOT NULL,
    refresh_owner text,
    refresh_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE nango_of_the_release._nango_connections_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_connections_id_seq OWNED BY nango_of_the_release._nango_connections.id;
CREATE TABLE nango_of_the_release._nango_datasets (
    id bigint NOT NULL,
    integration text NOT NULL,
    connection_id text NOT NULL,
    variant text NOT NULL,
    model text NOT NULL,
    sync_id bigint NOT NULL,
    live_count bigint DEFAULT '0'::bigint NOT NULL,
    last_modified_at timestamp with time zone,
    announced_until timestamp with time zone,
    unique_key text,
    has_mixed_keys boolean DEFAULT false NOT NULL,
    key_types text DEFAULT ''::text NOT NULL,
    mapped_table text,
    mapping_version text,
    etag text,
    payloads_wanted boolean DEFAULT false NOT NULL,
    is_emptied boolean DEFAULT false NOT NULL,
    earlier_counts text DEFAULT '[]'::text NOT NULL,
    problems text DEFAULT '{}'::text NOT NULL,
    pruned_until text,
    window_opened_at timestamp with time zone,
    window_is_doubtful boolean DEFAULT false NOT NULL,
    pending_added bigint DEFAULT '0'::bigint NOT NULL,
    pending_updated bigint DEFAULT '0'::bigint NOT NULL,
    pending_deleted bigint DEFAULT '0'::bigint NOT NULL
);
CREATE SEQUENCE nango_of_the_release._nango_datasets_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_datasets_id_seq OWNED BY nango_of_the_release._nango_datasets.id;
CREATE TABLE nango_of_the_release._nango_integrations (
    integration text NOT NULL,
    display_name text,
    provider text,
    base_url text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE nango_of_the_release._nango_jobs (
    id bigint NOT NULL,
    sync_id bigint NOT NULL,
    sync_friendly_name text NOT NULL,
    connection_id text NOT NULL,
    variant text NOT NULL,
    model text NOT NULL,
    run_id text,
    worker_id bigint NOT NULL,
    fence bigint NOT NULL,
    status text NOT NULL,
    attempt integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    error_message text,
    error_stack text,
    stop_reason text,
    updated_row_count bigint,
    added_count bigint DEFAULT '0'::bigint NOT NULL,
    updated_count bigint DEFAULT '0'::bigint NOT NULL,
    deleted_count bigint DEFAULT '0'::bigint NOT NULL,
    unchanged_count bigint DEFAULT '0'::bigint NOT NULL,
    rejected_count bigint DEFAULT '0'::bigint NOT NULL,
    fetched_count bigint DEFAULT '0'::bigint NOT NULL,
    page_count bigint DEFAULT '0'::bigint NOT NULL,
    request_count bigint DEFAULT '0'::bigint NOT NULL,
    retry_count bigint DEFAULT '0'::bigint NOT NULL,
    warnings text DEFAULT '[]'::text NOT NULL
);
CREATE SEQUENCE nango_of_the_release._nango_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_jobs_id_seq OWNED BY nango_of_the_release._nango_jobs.id;
CREATE TABLE nango_of_the_release._nango_mapped_tables (
    table_name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE nango_of_the_release._nango_migrations (
    version_num character varying(32) NOT NULL
);
CREATE TABLE nango_of_the_release._nango_missing (
    dataset_id bigint NOT NULL,
    external_id text NOT NULL COLLATE pg_catalog."C",
    times integer NOT NULL
);
CREATE TABLE nango_of_the_release._nango_parents (
    dataset_id bigint NOT NULL,
    parent_id text NOT NULL COLLATE pg_catalog."C",
    version timestamp with time zone
);
CREATE TABLE nango_of_the_release._nango_raw (
    dataset_id bigint NOT NULL,
    external_id text NOT NULL COLLATE pg_catalog."C",
    sync_id bigint NOT NULL,
    byte_hash bytea NOT NULL,
    content_hash bytea,
    first_seen_at timestamp with time zone NOT NULL,
    last_modified_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    pruned_at timestamp with time zone,
    payload_wanted boolean DEFAULT false NOT NULL,
    id_is_number boolean,
    data json
);
CREATE VIEW nango_of_the_release._nango_records AS
 SELECT d.integration,
    d.connection_id,
    d.variant,
    d.model,
    r.external_id,
    r.data,
    r.first_seen_at,
    r.last_modified_at,
    r.deleted_at,
    r.pruned_at,
    r.sync_id,
    r.dataset_id
   FROM (nango_of_the_release._nango_raw r
     JOIN nango_of_the_release._nango_datasets d ON ((d.id = r.dataset_id)));
CREATE TABLE nango_of_the_release._nango_rejected (
    dataset_id bigint NOT NULL,
    identity text NOT NULL,
    place text NOT NULL,
    external_id text,
    text bytea,
    reason text NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL
);
CREATE TABLE nango_of_the_release._nango_schedules (
    id bigint NOT NULL,
    sync_id bigint NOT NULL,
    connection_id text NOT NULL,
    variant text NOT NULL,
    state text DEFAULT 'STARTED'::text NOT NULL,
    frequency text,
    triggered_at timestamp with time zone,
    reset boolean DEFAULT false NOT NULL,
    empty_cache boolean DEFAULT false NOT NULL,
    cancelled_at timestamp with time zone,
    last_started_at timestamp with time zone,
    last_ended_at timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    losses integer DEFAULT 0 NOT NULL,
    checkpoint text,
    last_sync_at timestamp with time zone,
    worker_id bigint,
    claimed_at timestamp with time zone,
    fence bigint DEFAULT '0'::bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    not_before timestamp with time zone,
    due_at timestamp with time zone,
    shown_state text,
    shown_at timestamp with time zone
);
CREATE SEQUENCE nango_of_the_release._nango_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_schedules_id_seq OWNED BY nango_of_the_release._nango_schedules.id;
CREATE TABLE nango_of_the_release._nango_script_locks (
    name text NOT NULL,
    owner text NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE nango_of_the_release._nango_settings (
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE nango_of_the_release._nango_sync_1 (
    _nango_sync_id bigint NOT NULL,
    _nango_model text NOT NULL COLLATE pg_catalog."C",
    _nango_connection_id text NOT NULL COLLATE pg_catalog."C",
    _nango_variant text NOT NULL COLLATE pg_catalog."C",
    _nango_unique_key text NOT NULL COLLATE pg_catalog."C",
    _nango_emitted_at timestamp with time zone NOT NULL,
    _nango_deleted_at timestamp with time zone,
    _nango_integration text NOT NULL COLLATE pg_catalog."C",
    id numeric,
    name text,
    price numeric,
    tags_0 text,
    tags_1 text
);
CREATE TABLE nango_of_the_release._nango_syncs (
    id bigint NOT NULL,
    integration text NOT NULL,
    name text NOT NULL,
    friendly_name text,
    model text NOT NULL,
    url text NOT NULL,
    method text NOT NULL,
    unique_key text,
    frequency text NOT NULL,
    mapped_table text,
    origin text NOT NULL,
    body_hash text,
    config text NOT NULL,
    owner text,
    is_stopped boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE nango_of_the_release._nango_syncs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_syncs_id_seq OWNED BY nango_of_the_release._nango_syncs.id;
CREATE TABLE nango_of_the_release._nango_webhook_circuits (
    circuit text NOT NULL,
    failures integer NOT NULL,
    open_until timestamp with time zone
);
CREATE TABLE nango_of_the_release._nango_webhooks (
    id bigint NOT NULL,
    delivery_id text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    circuit text NOT NULL,
    integration text NOT NULL,
    connection_id text NOT NULL,
    variant text NOT NULL,
    sync_name text NOT NULL,
    model text NOT NULL,
    sync_type text NOT NULL,
    added bigint NOT NULL,
    updated bigint NOT NULL,
    deleted bigint NOT NULL,
    modified_after timestamp with time zone,
    checkpoint_from text,
    checkpoint_to text,
    error text,
    started_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_try_at timestamp with time zone NOT NULL,
    leased_until timestamp with time zone,
    last_error text
);
CREATE SEQUENCE nango_of_the_release._nango_webhooks_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_webhooks_id_seq OWNED BY nango_of_the_release._nango_webhooks.id;
CREATE TABLE nango_of_the_release._nango_window_keys (
    dataset_id bigint NOT NULL,
    digest bytea NOT NULL
);
CREATE TABLE nango_of_the_release._nango_workers (
    id bigint NOT NULL,
    sync_id bigint NOT NULL,
    run_id text,
    host text NOT NULL,
    pid integer NOT NULL,
    process text,
    started_at timestamp with time zone NOT NULL,
    heartbeat_at timestamp with time zone NOT NULL,
    drains boolean DEFAULT false NOT NULL
);
CREATE SEQUENCE nango_of_the_release._nango_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE nango_of_the_release._nango_workers_id_seq OWNED BY nango_of_the_release._nango_workers.id;
ALTER TABLE ONLY nango_of_the_release._nango_connections ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_connections_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_datasets ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_datasets_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_jobs ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_jobs_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_schedules ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_schedules_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_syncs ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_syncs_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_webhooks ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_webhooks_id_seq'::regclass);
ALTER TABLE ONLY nango_of_the_release._nango_workers ALTER COLUMN id SET DEFAULT nextval('nango_of_the_release._nango_workers_id_seq'::regclass);
INSERT INTO nango_of_the_release._nango_columns VALUES ('_nango_sync_1', 'id', 'id', 'number', '2026-11-29 17:50:29.969233+13:45');
INSERT INTO nango_of_the_release._nango_columns VALUES ('_nango_sync_1', 'name', 'name', 'string', '2026-11-29 17:50:29.969233+13:45');
INSERT INTO nango_of_the_release._nango_columns VALUES ('_nango_sync_1', 'price', 'price', 'number', '2026-11-29 17:50:29.969233+13:45');
INSERT INTO nango_of_the_release._nango_columns VALUES ('_nango_sync_1', 'tags[0]', 'tags_0', 'string', '2026-11-29 17:50:29.969233+13:45');
INSERT INTO nango_of_the_release._nango_columns VALUES ('_nango_sync_1', 'tags[1]', 'tags_1', 'string', '2026-11-29 17:50:29.969233+13:45');
INSERT INTO nango_of_the_release._nango_connections VALUES (1, 'crm', 'acme', 'gAAAAABrC6SJOPVuVUwbuDiCNAFkEIBPQfQZJMRXFgYzG7ETcqJH7CROIYDszzbMSo-m9U57cN4DootJnFvE68rJXqRfGQbu4qFeVx3kPYPbgR4DvOxjxHtnFvYlR_Vg5J4L212N-eYC', '{"region": "eu"}', '{}', NULL, 0, NULL, NULL, '2026-11-29 17:50:29.883156+13:45', '2026-11-29 17:50:29.883156+13:45');
INSERT INTO nango_of_the_release._nango_datasets VALUES (1, 'crm', 'acme', 'base', 'Items', 1, 2, '2026-11-29 17:50:30.041576+13:45', '2026-11-29 17:50:30.041576+13:45', 'id', false, 'number', '_nango_sync_1', '18e627717b18f414', NULL, false, false, '[["2026-11-29T04:59:59+00:00", 3]]', '{}', NULL, NULL, false, 0, 0, 0);
INSERT INTO nango_of_the_release._nango_jobs VALUES (1, 1, 'items', 'acme', 'base', 'Items', 'a-run', 1, 1, 'failed', 1, '2026-11-29 17:50:30.067801+13:45', '2026-11-29 17:50:30.085896+13:45', 'run a-run ended before this execution did.', NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, '[]');
INSERT INTO nango_of_the_release._nango_mapped_tables VALUES ('_nango_sync_1', '2026-11-29 17:50:29.913397+13:45');
INSERT INTO nango_of_the_release._nango_migrations VALUES ('0001');
INSERT INTO nango_of_the_release._nango_raw VALUES (1, '2', 1, '\x84c35aabc43913550588ca0227f97265', NULL, '2026-11-29 17:50:29.977444+13:45', '2026-11-29 17:50:29.977444+13:45', NULL, NULL, false, NULL, '{"id":2,"name":"Bob","tags":["a","b"]}');
INSERT INTO nango_of_the_release._nango_raw VALUES (1, '1', 1, '\xb5ea667a96418cc55b7efad14809971e', '\xb5ea667a96418cc55b7efad14809971e', '2026-11-29 17:50:29.977444+13:45', '2026-11-29 17:50:30.020943+13:45', NULL, NULL, false, NULL, '{"id":1,"name":"Anna","price":2}');
INSERT INTO nango_of_the_release._nango_raw VALUES (1, '3', 1, '\xb42282f360abdc92cbba8773b7d1d08e', NULL, '2026-11-29 17:50:29.977444+13:45', '2026-11-29 17:50:30.041576+13:45', '2026-11-29 17:50:30.041576+13:45', NULL, false, NULL, '{"id":3}');
INSERT INTO nango_of_the_release._nango_schedules VALUES (1, 1, 'acme', 'base', 'STARTED', NULL, '2026-11-29 17:50:30.121818+13:45', false, false, NULL, '2026-11-29 17:50:30.065102+13:45', '2026-11-29 17:50:30.0827+13:45', 1, 1, NULL, NULL, NULL, NULL, 1, '2026-11-29 17:50:29.896971+13:45', NULL, NULL, NULL, NULL);
INSERT INTO nango_of_the_release._nango_sync_1 VALUES (1, 'Items', 'acme', 'base', '2', '2026-11-29 17:50:29.977444+13:45', NULL, 'crm', 2, 'Bob', NULL, 'a', 'b');
INSERT INTO nango_of_the_release._nango_sync_1 VALUES (1, 'Items', 'acme', 'base', '1', '2026-11-29 17:50:30.020943+13:45', NULL, 'crm', 1, 'Anna', 2, NULL, NULL);
INSERT INTO nango_of_the_release._nango_sync_1 VALUES (1, 'Items', 'acme', 'base', '3', '2026-11-29 17:50:30.041576+13:45', '2026-11-29 17:50:30.041576+13:45', 'crm', 3, NULL, NULL, NULL, NULL);
INSERT INTO nango_of_the_release._nango_syncs VALUES (1, 'crm', 'items', NULL, 'Items', 'https://api.example.com/items', 'GET', 'id', 'every hour', NULL, 'file', NULL, '{"name": "items", "url": "https://api.example.com/items", "unique_key": "id", "track_deletes": {}, "integration": "crm"}', 'edges', false, '2026-11-29 17:50:29.857275+13:45', '2026-11-29 17:50:29.857275+13:45');
INSERT INTO nango_of_the_release._nango_webhooks VALUES (1, '60f095eb-fd47-43e8-9d92-5aaae0fa92ce', 'changes', 'primary', 'primary', 'crm', 'acme', 'base', 'items', 'Items', 'INITIAL', 3, 1, 1, NULL, NULL, NULL, NULL, NULL, '2026-11-29 17:50:30.102838+13:45', 'pending', 0, '2026-11-29 17:50:30.102838+13:45', NULL, NULL);
INSERT INTO nango_of_the_release._nango_webhooks VALUES (2, '72661d09-2fd4-4ffe-998f-e1cc43f1964f', 'failure', 'primary', 'primary', 'crm', 'acme', 'base', 'items', 'Items', 'INITIAL', 0, 0, 0, NULL, NULL, NULL, 'run a-run ended before this execution did.', '2026-11-29 17:50:30.067801+13:45', '2026-11-29 17:50:30.111548+13:45', 'pending', 0, '2026-11-29 17:50:30.111548+13:45', NULL, NULL);
SELECT pg_catalog.setval('nango_of_the_release._nango_connections_id_seq', 1, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_datasets_id_seq', 1, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_jobs_id_seq', 1, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_schedules_id_seq', 1, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_syncs_id_seq', 1, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_webhooks_id_seq', 2, true);
SELECT pg_catalog.setval('nango_of_the_release._nango_workers_id_seq', 1, true);
ALTER TABLE ONLY nango_of_the_release._nango_budgets
    ADD CONSTRAINT _nango_budgets_pkey PRIMARY KEY (key);
ALTER TABLE ONLY nango_of_the_release._nango_children
    ADD CONSTRAINT _nango_children_pkey PRIMARY KEY (dataset_id, parent_id, external_id);
ALTER TABLE ONLY nango_of_the_release._nango_columns
    ADD CONSTRAINT _nango_columns_name UNIQUE (table_name, column_name);
ALTER TABLE ONLY nango_of_the_release._nango_columns
    ADD CONSTRAINT _nango_columns_pkey PRIMARY KEY (table_name, path);
ALTER TABLE ONLY nango_of_the_release._nango_connections
    ADD CONSTRAINT _nango_connections_key UNIQUE (integration, connection_id);
ALTER TABLE ONLY nango_of_the_release._nango_connections
    ADD CONSTRAINT _nango_connections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_datasets
    ADD CONSTRAINT _nango_datasets_key UNIQUE (integration, connection_id, variant, model);
ALTER TABLE ONLY nango_of_the_release._nango_datasets
    ADD CONSTRAINT _nango_datasets_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_integrations
    ADD CONSTRAINT _nango_integrations_pkey PRIMARY KEY (integration);
ALTER TABLE ONLY nango_of_the_release._nango_jobs
    ADD CONSTRAINT _nango_jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_mapped_tables
    ADD CONSTRAINT _nango_mapped_tables_pkey PRIMARY KEY (table_name);
ALTER TABLE ONLY nango_of_the_release._nango_migrations
    ADD CONSTRAINT _nango_migrations_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY nango_of_the_release._nango_missing
    ADD CONSTRAINT _nango_missing_pkey PRIMARY KEY (dataset_id, external_id);
ALTER TABLE ONLY nango_of_the_release._nango_parents
    ADD CONSTRAINT _nango_parents_pkey PRIMARY KEY (dataset_id, parent_id);
ALTER TABLE ONLY nango_of_the_release._nango_raw
    ADD CONSTRAINT _nango_raw_pkey PRIMARY KEY (dataset_id, external_id);
ALTER TABLE ONLY nango_of_the_release._nango_rejected
    ADD CONSTRAINT _nango_rejected_pkey PRIMARY KEY (dataset_id, identity);
ALTER TABLE ONLY nango_of_the_release._nango_schedules
    ADD CONSTRAINT _nango_schedules_key UNIQUE (sync_id, connection_id, variant);
ALTER TABLE ONLY nango_of_the_release._nango_schedules
    ADD CONSTRAINT _nango_schedules_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_script_locks
    ADD CONSTRAINT _nango_script_locks_pkey PRIMARY KEY (name);
ALTER TABLE ONLY nango_of_the_release._nango_settings
    ADD CONSTRAINT _nango_settings_pkey PRIMARY KEY (name);
ALTER TABLE ONLY nango_of_the_release._nango_sync_1
    ADD CONSTRAINT _nango_sync_1__nango_sync_id__nango_model__nango_connection_key UNIQUE (_nango_sync_id, _nango_model, _nango_connection_id, _nango_variant, _nango_unique_key);
ALTER TABLE ONLY nango_of_the_release._nango_syncs
    ADD CONSTRAINT _nango_syncs_name UNIQUE (integration, name);
ALTER TABLE ONLY nango_of_the_release._nango_syncs
    ADD CONSTRAINT _nango_syncs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_webhook_circuits
    ADD CONSTRAINT _nango_webhook_circuits_pkey PRIMARY KEY (circuit);
ALTER TABLE ONLY nango_of_the_release._nango_webhooks
    ADD CONSTRAINT _nango_webhooks_pkey PRIMARY KEY (id);
ALTER TABLE ONLY nango_of_the_release._nango_window_keys
    ADD CONSTRAINT _nango_window_keys_pkey PRIMARY KEY (dataset_id, digest);
ALTER TABLE ONLY nango_of_the_release._nango_workers
    ADD CONSTRAINT _nango_workers_pkey PRIMARY KEY (id);
CREATE INDEX _nango_children_key ON nango_of_the_release._nango_children USING btree (dataset_id, external_id);
CREATE INDEX _nango_connections_refused ON nango_of_the_release._nango_connections USING btree (integration, connection_id) WHERE (auth_failures >= 3);
CREATE INDEX _nango_datasets_sync ON nango_of_the_release._nango_datasets USING btree (sync_id, connection_id, variant);
CREATE INDEX _nango_jobs_schedule ON nango_of_the_release._nango_jobs USING btree (sync_id, connection_id, variant, id);
CREATE INDEX _nango_jobs_worker ON nango_of_the_release._nango_jobs USING btree (worker_id);
CREATE INDEX _nango_raw_added ON nango_of_the_release._nango_raw USING btree (dataset_id, last_modified_at, external_id) WHERE ((deleted_at IS NULL) AND (first_seen_at = last_modified_at));
CREATE INDEX _nango_raw_deleted ON nango_of_the_release._nango_raw USING btree (dataset_id, last_modified_at, external_id) WHERE (deleted_at IS NOT NULL);
CREATE INDEX _nango_raw_updated ON nango_of_the_release._nango_raw USING btree (dataset_id, last_modified_at, external_id) WHERE ((deleted_at IS NULL) AND (first_seen_at <> last_modified_at));
CREATE INDEX _nango_schedules_worker ON nango_of_the_release._nango_schedules USING btree (worker_id) WHERE (worker_id IS NOT NULL);
CREATE INDEX _nango_webhooks_due ON nango_of_the_release._nango_webhooks USING btree (state, next_try_at);
CREATE INDEX _nango_webhooks_of ON nango_of_the_release._nango_webhooks USING btree (integration, connection_id, sync_name, variant);
ALTER TABLE ONLY nango_of_the_release._nango_datasets
    ADD CONSTRAINT _nango_datasets_sync_id_fkey FOREIGN KEY (sync_id) REFERENCES nango_of_the_release._nango_syncs(id);
ALTER TABLE ONLY nango_of_the_release._nango_schedules
    ADD CONSTRAINT _nango_schedules_sync_id_fkey FOREIGN KEY (sync_id) REFERENCES nango_of_the_release._nango_syncs(id) ON DELETE CASCADE;
