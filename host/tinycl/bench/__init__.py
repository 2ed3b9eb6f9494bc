"""What is measured, by `make bench` and by the tests: one file a subject beside this one."""
