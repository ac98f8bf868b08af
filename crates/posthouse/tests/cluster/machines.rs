//! Machines in trouble: the manager's disk is full, a worker's clock is wrong.
