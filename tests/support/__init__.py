"""What tests of several folders need, and no test: processes, virtual time, how much is tried."""
