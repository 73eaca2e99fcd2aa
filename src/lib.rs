//! klaviyod
