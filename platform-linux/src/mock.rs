//! The software controllers as buses.
