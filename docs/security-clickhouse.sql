-- Users of the ledger with no more rights than they need. Run it as an administrator of ClickHouse, once the schema is
-- there (any `spanledger` command with an administrator's SPANLEDGER_URL makes it). Replace database and passwords.

-- Whoever settles and reprices (`spanledger settle`, `spanledger reprice`, `spanledger up`), and after an upgrade brings
-- the schema up to date: the ledger's own tables, nothing beyond the database.
CREATE USER IF NOT EXISTS spanledger_owner IDENTIFIED WITH sha256_password BY 'OWNER-PASSWORD'
    DEFAULT DATABASE spanledger;
GRANT SHOW, SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE
    ON spanledger.* TO spanledger_owner;
GRANT SELECT ON system.parts TO spanledger_owner;
GRANT TABLE ENGINE ON MergeTree, TABLE ENGINE ON ReplacingMergeTree TO spanledger_owner;

-- Programs and collectors: SPANLEDGER_URL=https://spanledger_insert:PASSWORD@HOST:8443/spanledger
-- They insert rows and read which migrations the schema has, nothing else: no row of the ledger, not their own either.
CREATE USER IF NOT EXISTS spanledger_insert IDENTIFIED WITH sha256_password BY 'INSERT-PASSWORD'
    DEFAULT DATABASE spanledger;
GRANT INSERT ON spanledger.llm_calls TO spanledger_insert;
GRANT INSERT ON spanledger.spanledger_health TO spanledger_insert;
GRANT SELECT ON spanledger.schema_migrations TO spanledger_insert;
-- A materialized view reads what they insert: with its owner's rights, not theirs. Once more after an upgrade that makes
-- the view anew; until then their rows wait in the journal, and the log says so.
ALTER TABLE spanledger.llm_describers_feed MODIFY SQL SECURITY DEFINER DEFINER = spanledger_owner;

-- Dashboards and reports: they read the ledger and change nothing.
CREATE USER IF NOT EXISTS spanledger_read IDENTIFIED WITH sha256_password BY 'READ-PASSWORD'
    DEFAULT DATABASE spanledger
    SETTINGS readonly = 2, allow_ddl = 0, max_execution_time = 120 MAX 600, max_memory_usage = 4000000000 MAX 4000000000;
GRANT SHOW, SELECT ON spanledger.* TO spanledger_read;
