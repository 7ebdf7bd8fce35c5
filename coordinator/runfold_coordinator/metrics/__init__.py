"""What `/metrics` says of the coordinator and of the runs that go on."""
