"""What tests of several folders need, and no test: processes, virtual time, real peers that talk,
paths and streams that are made of nothing."""
