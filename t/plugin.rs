//! (plugin)
