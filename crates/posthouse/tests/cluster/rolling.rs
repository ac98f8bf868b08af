//! What operators do to nodes under load: drain them, take them back, restart one after the other.
