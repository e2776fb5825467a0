//! What is there after the worst: processes that are killed under load, folders that are not what they should be, files
//! that were damaged.

mod damage;
mod folder;
mod kill;
