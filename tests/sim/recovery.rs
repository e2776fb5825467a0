//! What is there after the worst: processes that are killed under load, folders that are not what they should be, files
//! that were damaged; and what brings a store back: backups, restores, migrations.

mod backup;
mod damage;
mod failed;
mod folder;
mod golden;
mod history;
mod kill;
mod migrate;
mod restore;
