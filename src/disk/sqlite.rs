//! SQLite files that come from strangers: an old `linkgraph.db`, or a journal in a root that somebody else prepared.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// Turns off what in a database file of a stranger would run: triggers, views, functions of its schema.
pub fn distrust(db: &Connection) -> rusqlite::Result<()> {
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        db.set_db_config(option, on)?;
    }
    Ok(())
}
