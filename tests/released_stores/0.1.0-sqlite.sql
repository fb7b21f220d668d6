BEGIN TRANSACTION;
CREATE TABLE _nango_budgets (
	"key" TEXT NOT NULL, 
	holder TEXT, 
	free_at TEXT, 
	day TEXT, 
	spent BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE _nango_children (
	dataset_id INTEGER NOT NULL, 
	parent_id TEXT NOT NULL, 
	external_id TEXT NOT NULL, 
	PRIMARY KEY (dataset_id, parent_id, external_id)
);
CREATE TABLE _nango_columns (
	table_name TEXT NOT NULL, 
	path TEXT NOT NULL, 
	column_name TEXT NOT NULL, 
	type TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (table_name, path), 
	CONSTRAINT _nango_columns_name UNIQUE (table_name, column_name)
);
INSERT INTO "_nango_columns" VALUES('_nango_sync_1','id','id','number','2026-11-29 04:05:29.489952+00:00');
INSERT INTO "_nango_columns" VALUES('_nango_sync_1','name','name','string','2026-11-29 04:05:29.489952+00:00');
INSERT INTO "_nango_columns" VALUES('_nango_sync_1','price','price','number','2026-11-29 04:05:29.489952+00:00');
INSERT INTO "_nango_columns" VALUES('_nango_sync_1','tags[0]','tags_0','string','2026-11-29 04:05:29.489952+00:00');
INSERT INTO "_nango_columns" VALUES('_nango_sync_1','tags[1]','tags_1','string','2026-11-29 04:05:29.489952+00:00');
CREATE TABLE _nango_connections (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	integration TEXT NOT NULL, 
	connection_id TEXT NOT NULL, 
	credentials TEXT, 
	metadata TEXT DEFAULT '{}' NOT NULL, 
	config TEXT DEFAULT '{}' NOT NULL, 
	webhook_url_source TEXT, 
	auth_failures INTEGER DEFAULT '0' NOT NULL, 
	refresh_owner TEXT, 
	refresh_until TEXT, 
	created_at TEXT NOT NULL, 
	updated_at TEXT NOT NULL, 
	CONSTRAINT _nango_connections_key UNIQUE (integration, connection_id)
);
INSERT INTO "_nango_connections" VALUES(1,'crm','acme','gAAAAABrC6SJGdnaK0L89hj4YN3rpWnD2ytZPWZnIzLR4OleApemckWly9VSgnP_U_XlpxmoiMSF9yACkRR_l5IAFQFwEh_3nuJqf2FitH4OqtIoSHUu7JB3z4tr3rSp7IJsgKGPvGsU','{"region": "eu"}','{}',NULL,0,NULL,NULL,'2026-11-29 04:05:29.447760+00:00','2026-11-29 04:05:29.447760+00:00');
CREATE TABLE _nango_datasets (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	integration TEXT NOT NULL, 
	connection_id TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	model TEXT NOT NULL, 
	sync_id INTEGER NOT NULL, 
	live_count BIGINT DEFAULT '0' NOT NULL, 
	last_modified_at TEXT, 
	announced_until TEXT, 
	unique_key TEXT, 
	has_mixed_keys BOOLEAN DEFAULT false NOT NULL, 
	key_types TEXT DEFAULT '' NOT NULL, 
	mapped_table TEXT, 
	mapping_version TEXT, 
	etag TEXT, 
	payloads_wanted BOOLEAN DEFAULT false NOT NULL, 
	is_emptied BOOLEAN DEFAULT false NOT NULL, 
	earlier_counts TEXT DEFAULT '[]' NOT NULL, 
	problems TEXT DEFAULT '{}' NOT NULL, 
	pruned_until TEXT, 
	window_opened_at TEXT, 
	window_is_doubtful BOOLEAN DEFAULT false NOT NULL, 
	pending_added BIGINT DEFAULT '0' NOT NULL, 
	pending_updated BIGINT DEFAULT '0' NOT NULL, 
	pending_deleted BIGINT DEFAULT '0' NOT NULL, 
	FOREIGN KEY(sync_id) REFERENCES _nango_syncs (id), 
	CONSTRAINT _nango_datasets_key UNIQUE (integration, connection_id, variant, model)
);
INSERT INTO "_nango_datasets" VALUES(1,'crm','acme','base','Items',1,2,'2026-11-29 04:05:29.540530+00:00','2026-11-29 04:05:29.540530+00:00','id',0,'number','_nango_sync_1','18e627717b18f414',NULL,0,0,'[["2026-11-29T04:59:59+00:00", 3]]','{}',NULL,NULL,0,0,0,0);
CREATE TABLE _nango_integrations (
	integration TEXT NOT NULL, 
	display_name TEXT, 
	provider TEXT, 
	base_url TEXT, 
	created_at TEXT NOT NULL, 
	updated_at TEXT NOT NULL, 
	PRIMARY KEY (integration)
);
CREATE TABLE _nango_jobs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	sync_id INTEGER NOT NULL, 
	sync_friendly_name TEXT NOT NULL, 
	connection_id TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	model TEXT NOT NULL, 
	run_id TEXT, 
	worker_id INTEGER NOT NULL, 
	fence BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	started_at TEXT NOT NULL, 
	ended_at TEXT, 
	error_message TEXT, 
	error_stack TEXT, 
	stop_reason TEXT, 
	updated_row_count BIGINT, 
	added_count BIGINT DEFAULT '0' NOT NULL, 
	updated_count BIGINT DEFAULT '0' NOT NULL, 
	deleted_count BIGINT DEFAULT '0' NOT NULL, 
	unchanged_count BIGINT DEFAULT '0' NOT NULL, 
	rejected_count BIGINT DEFAULT '0' NOT NULL, 
	fetched_count BIGINT DEFAULT '0' NOT NULL, 
	page_count BIGINT DEFAULT '0' NOT NULL, 
	request_count BIGINT DEFAULT '0' NOT NULL, 
	retry_count BIGINT DEFAULT '0' NOT NULL, 
	warnings TEXT DEFAULT '[]' NOT NULL
);
INSERT INTO "_nango_jobs" VALUES(1,1,'items','acme','base','Items','a-run',1,1,'failed',1,'2026-11-29 04:05:29.558217+00:00','2026-11-29 04:05:29.574395+00:00','run a-run ended before this execution did.',NULL,NULL,NULL,0,0,0,0,0,0,0,0,0,'[]');
CREATE TABLE _nango_mapped_tables (
	table_name TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (table_name)
);
INSERT INTO "_nango_mapped_tables" VALUES('_nango_sync_1','2026-11-29 04:05:29.464145+00:00');
CREATE TABLE _nango_migrations (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT _nango_migrations_pkc PRIMARY KEY (version_num)
);
INSERT INTO "_nango_migrations" VALUES('0001');
CREATE TABLE _nango_missing (
	dataset_id INTEGER NOT NULL, 
	external_id TEXT NOT NULL, 
	times INTEGER NOT NULL, 
	PRIMARY KEY (dataset_id, external_id)
);
CREATE TABLE _nango_parents (
	dataset_id INTEGER NOT NULL, 
	parent_id TEXT NOT NULL, 
	version TEXT, 
	PRIMARY KEY (dataset_id, parent_id)
);
CREATE TABLE _nango_raw (
	dataset_id INTEGER NOT NULL, 
	external_id TEXT NOT NULL, 
	sync_id INTEGER NOT NULL, 
	byte_hash BLOB NOT NULL, 
	content_hash BLOB, 
	first_seen_at TEXT NOT NULL, 
	last_modified_at TEXT NOT NULL, 
	deleted_at TEXT, 
	pruned_at TEXT, 
	payload_wanted BOOLEAN DEFAULT false NOT NULL, 
	id_is_number BOOLEAN, 
	data TEXT, 
	PRIMARY KEY (dataset_id, external_id)
);
INSERT INTO "_nango_raw" VALUES(1,'1',1,X'B5EA667A96418CC55B7EFAD14809971E',X'B5EA667A96418CC55B7EFAD14809971E','2026-11-29 04:05:29.495731+00:00','2026-11-29 04:05:29.527821+00:00',NULL,NULL,0,NULL,'{"id":1,"name":"Anna","price":2}');
INSERT INTO "_nango_raw" VALUES(1,'2',1,X'84C35AABC43913550588CA0227F97265',NULL,'2026-11-29 04:05:29.495731+00:00','2026-11-29 04:05:29.495731+00:00',NULL,NULL,0,NULL,'{"id":2,"name":"Bob","tags":["a","b"]}');
INSERT INTO "_nango_raw" VALUES(1,'3',1,X'B42282F360ABDC92CBBA8773B7D1D08E',NULL,'2026-11-29 04:05:29.495731+00:00','2026-11-29 04:05:29.540530+00:00','2026-11-29 04:05:29.540530+00:00',NULL,0,NULL,'{"id":3}');
CREATE TABLE _nango_rejected (
	dataset_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	place TEXT NOT NULL, 
	external_id TEXT, 
	text BLOB, 
	reason TEXT NOT NULL, 
	first_seen_at TEXT NOT NULL, 
	last_seen_at TEXT NOT NULL, 
	PRIMARY KEY (dataset_id, identity)
);
CREATE TABLE _nango_schedules (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	sync_id INTEGER NOT NULL, 
	connection_id TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	state TEXT DEFAULT 'STARTED' NOT NULL, 
	frequency TEXT, 
	triggered_at TEXT, 
	reset BOOLEAN DEFAULT false NOT NULL, 
	empty_cache BOOLEAN DEFAULT false NOT NULL, 
	cancelled_at TEXT, 
	last_started_at TEXT, 
	last_ended_at TEXT, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	losses INTEGER DEFAULT '0' NOT NULL, 
	checkpoint TEXT, 
	last_sync_at TEXT, 
	worker_id INTEGER, 
	claimed_at TEXT, 
	fence BIGINT DEFAULT '0' NOT NULL, 
	created_at TEXT NOT NULL, 
	not_before TEXT, 
	due_at TEXT, 
	shown_state TEXT, 
	shown_at TEXT, 
	FOREIGN KEY(sync_id) REFERENCES _nango_syncs (id) ON DELETE CASCADE, 
	CONSTRAINT _nango_schedules_key UNIQUE (sync_id, connection_id, variant)
);
INSERT INTO "_nango_schedules" VALUES(1,1,'acme','base','STARTED',NULL,'2026-11-29 04:05:29.601955+00:00',0,0,NULL,'2026-11-29 04:05:29.557069+00:00','2026-11-29 04:05:29.569561+00:00',1,1,NULL,NULL,NULL,NULL,1,'2026-11-29 04:05:29.454131+00:00',NULL,NULL,NULL,NULL);
CREATE TABLE _nango_script_locks (
	name TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	expires_at TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE _nango_settings (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE "_nango_sync_1" (_nango_sync_id bigint NOT NULL, _nango_model TEXT NOT NULL, _nango_connection_id TEXT NOT NULL, _nango_variant TEXT NOT NULL, _nango_unique_key TEXT NOT NULL, _nango_emitted_at TIMESTAMP NOT NULL, _nango_deleted_at TIMESTAMP, _nango_integration TEXT NOT NULL, "id" NUMERIC, "name" TEXT, "price" NUMERIC, "tags_0" TEXT, "tags_1" TEXT, UNIQUE (_nango_sync_id, _nango_model, _nango_connection_id, _nango_variant, _nango_unique_key));
INSERT INTO "_nango_sync_1" VALUES(1,'Items','acme','base','2','2026-11-29 04:05:29.495731+00:00',NULL,'crm',2,'Bob',NULL,'a','b');
INSERT INTO "_nango_sync_1" VALUES(1,'Items','acme','base','3','2026-11-29 04:05:29.540530+00:00','2026-11-29 04:05:29.540530+00:00','crm',3,NULL,NULL,NULL,NULL);
INSERT INTO "_nango_sync_1" VALUES(1,'Items','acme','base','1','2026-11-29 04:05:29.527821+00:00',NULL,'crm',1,'Anna',2,NULL,NULL);
CREATE TABLE _nango_syncs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	integration TEXT NOT NULL, 
	name TEXT NOT NULL, 
	friendly_name TEXT, 
	model TEXT NOT NULL, 
	url TEXT NOT NULL, 
	method TEXT NOT NULL, 
	unique_key TEXT, 
	frequency TEXT NOT NULL, 
	mapped_table TEXT, 
	origin TEXT NOT NULL, 
	body_hash TEXT, 
	config TEXT NOT NULL, 
	owner TEXT, 
	is_stopped BOOLEAN DEFAULT false NOT NULL, 
	created_at TEXT NOT NULL, 
	updated_at TEXT NOT NULL, 
	CONSTRAINT _nango_syncs_name UNIQUE (integration, name)
);
INSERT INTO "_nango_syncs" VALUES(1,'crm','items',NULL,'Items','https://api.example.com/items','GET','id','every hour',NULL,'file',NULL,'{"name": "items", "url": "https://api.example.com/items", "unique_key": "id", "track_deletes": {}, "integration": "crm"}','edges',0,'2026-11-29 04:05:29.389471+00:00','2026-11-29 04:05:29.389471+00:00');
CREATE TABLE _nango_webhook_circuits (
	circuit TEXT NOT NULL, 
	failures INTEGER NOT NULL, 
	open_until TEXT, 
	PRIMARY KEY (circuit)
);
CREATE TABLE _nango_webhooks (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	delivery_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	target TEXT NOT NULL, 
	circuit TEXT NOT NULL, 
	integration TEXT NOT NULL, 
	connection_id TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	sync_name TEXT NOT NULL, 
	model TEXT NOT NULL, 
	sync_type TEXT NOT NULL, 
	added BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	deleted BIGINT NOT NULL, 
	modified_after TEXT, 
	checkpoint_from TEXT, 
	checkpoint_to TEXT, 
	error TEXT, 
	started_at TEXT, 
	created_at TEXT NOT NULL, 
	state TEXT DEFAULT 'pending' NOT NULL, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	next_try_at TEXT NOT NULL, 
	leased_until TEXT, 
	last_error TEXT
);
INSERT INTO "_nango_webhooks" VALUES(1,'79a3302f-ea1a-435b-a15a-cb744b3485ed','changes','primary','primary','crm','acme','base','items','Items','INITIAL',3,1,1,NULL,NULL,NULL,NULL,NULL,'2026-11-29 04:05:29.586782+00:00','pending',0,'2026-11-29 04:05:29.586844+00:00',NULL,NULL);
INSERT INTO "_nango_webhooks" VALUES(2,'8af4136d-d4d5-4999-9992-e035a59fe7c8','failure','primary','primary','crm','acme','base','items','Items','INITIAL',0,0,0,NULL,NULL,NULL,'run a-run ended before this execution did.','2026-11-29 04:05:29.558217+00:00','2026-11-29 04:05:29.592406+00:00','pending',0,'2026-11-29 04:05:29.592451+00:00',NULL,NULL);
CREATE TABLE _nango_window_keys (
	dataset_id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	PRIMARY KEY (dataset_id, digest)
);
CREATE TABLE _nango_workers (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	sync_id INTEGER NOT NULL, 
	run_id TEXT, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	process TEXT, 
	started_at TEXT NOT NULL, 
	heartbeat_at TEXT NOT NULL, 
	drains BOOLEAN DEFAULT false NOT NULL
);
CREATE INDEX _nango_connections_refused ON _nango_connections (integration, connection_id) WHERE auth_failures >= 3;
CREATE INDEX _nango_schedules_worker ON _nango_schedules (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX _nango_datasets_sync ON _nango_datasets (sync_id, connection_id, variant);
CREATE INDEX _nango_jobs_schedule ON _nango_jobs (sync_id, connection_id, variant, id);
CREATE INDEX _nango_jobs_worker ON _nango_jobs (worker_id);
CREATE INDEX _nango_raw_added ON _nango_raw (dataset_id, last_modified_at, external_id) WHERE deleted_at IS NULL AND first_seen_at = last_modified_at;
CREATE INDEX _nango_raw_updated ON _nango_raw (dataset_id, last_modified_at, external_id) WHERE deleted_at IS NULL AND first_seen_at <> last_modified_at;
CREATE INDEX _nango_raw_deleted ON _nango_raw (dataset_id, last_modified_at, external_id) WHERE deleted_at IS NOT NULL;
CREATE INDEX _nango_children_key ON _nango_children (dataset_id, external_id);
CREATE INDEX _nango_webhooks_due ON _nango_webhooks (state, next_try_at);
CREATE INDEX _nango_webhooks_of ON _nango_webhooks (integration, connection_id, sync_name, variant);
CREATE VIEW _nango_records AS
SELECT d.integration, d.connection_id, d.variant, d.model, r.external_id, r.data, r.first_seen_at,
       r.last_modified_at, r.deleted_at, r.pruned_at, r.sync_id, r.dataset_id
FROM _nango_raw r JOIN _nango_datasets d ON d.id = r.dataset_id;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('_nango_syncs',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_schedules',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_connections',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_datasets',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_workers',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_jobs',1);
INSERT INTO "sqlite_sequence" VALUES('_nango_webhooks',2);
COMMIT;
