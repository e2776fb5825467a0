//! Regressions of other systems by their names, each through the real process.
